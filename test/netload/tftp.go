package netload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// TFTP is how a file is fetched.
type TFTP struct {
	Server  *net.UDPAddr
	Block   int // bytes in a block; 0 asks for none, which is 512
	Retries int
	Wait    time.Duration
}

// Get fetches a file from a node's address into w, and gives its size. again is how often something was sent anew.
func (o TFTP) Get(from netip.Addr, name string, w io.Writer) (n int64, again int, err error) {
	conn, err := net.ListenUDP("udp4", udpAddr(from))
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	g := &getting{o: o, conn: conn, block: 512, buf: make([]byte, 65468), w: w, size: -1}
	err = g.run(name)
	return g.n, g.again, err
}

type getting struct {
	o         TFTP
	conn      *net.UDPConn
	peer      netip.AddrPort // the port of the transfer, once it is known
	block     int
	size      int64
	buf, last []byte
	lastTo    netip.AddrPort
	w         io.Writer
	n         int64
	again     int
	got       uint16 // the last block that came in order
}

func (g *getting) run(name string) error {
	request := "\x00\x01" + name + "\x00octet\x00tsize\x000\x00"
	if g.o.Block > 0 {
		request += "blksize\x00" + strconv.Itoa(g.o.Block) + "\x00"
	}
	a := g.o.Server.AddrPort()
	if err := g.send([]byte(request), netip.AddrPortFrom(a.Addr().Unmap(), a.Port())); err != nil {
		return err
	}
	for tries := 0; ; {
		k, from, err := g.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if tries++; tries > g.o.Retries {
				return fmt.Errorf("TFTP: %s: no answer after %d bytes", name, g.n)
			}
			g.again++
			if err := g.send(g.last, g.lastTo); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if g.peer.IsValid() && from != g.peer || k < 4 {
			continue
		}
		g.peer = from
		tries = 0
		end, err := g.take(g.buf[:k])
		if err != nil || end {
			return err
		}
	}
}

func (g *getting) receive() (int, netip.AddrPort, error) {
	if err := g.conn.SetReadDeadline(time.Now().Add(g.o.Wait)); err != nil {
		return 0, netip.AddrPort{}, err
	}
	k, from, err := g.conn.ReadFromUDPAddrPort(g.buf)
	return k, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
}

func (g *getting) send(p []byte, to netip.AddrPort) error {
	g.last, g.lastTo = p, to
	_, err := g.conn.WriteToUDPAddrPort(p, to)
	return err
}

// take works on one packet; end says that it was the last.
func (g *getting) take(p []byte) (end bool, err error) {
	switch p[1] {
	case 3:
		return g.data(binary.BigEndian.Uint16(p[2:]), p[4:])
	case 5:
		return false, fmt.Errorf("TFTP: error %d: %s", p[3], strings.TrimRight(string(p[4:]), "\x00"))
	case 6:
		g.options(p[2:])
		return false, g.acknowledge(0)
	}
	return false, fmt.Errorf("TFTP: a packet of type %d", p[1])
}

func (g *getting) options(p []byte) {
	words := strings.Split(string(p), "\x00")
	for i := 0; i+1 < len(words); i += 2 {
		v, _ := strconv.Atoi(words[i+1]) // 0 is none
		switch strings.ToLower(words[i]) {
		case "blksize":
			g.block = v
		case "tsize":
			g.size = int64(v)
		}
	}
}

func (g *getting) data(block uint16, data []byte) (end bool, err error) {
	if block != g.got+1 {
		if block == g.got { // it came twice: the server has not heard that it came
			g.again++
			return false, g.acknowledge(g.got)
		}
		return false, nil
	}
	g.got++
	g.n += int64(len(data))
	if _, err := g.w.Write(data); err != nil {
		return false, err
	}
	if end = len(data) < g.block; end && g.size >= 0 && g.n != g.size {
		return true, fmt.Errorf("TFTP: %d bytes came of %d", g.n, g.size)
	}
	return end, g.acknowledge(block)
}

func (g *getting) acknowledge(block uint16) error {
	return g.send([]byte{0, 4, byte(block >> 8), byte(block)}, g.peer)
}
