// Package netload is many made-up nodes that boot over a network: each asks for an address as firmware does, as iPXE and as an operating system,
// with a MAC and an address of its own, fetches its boot program by TFTP and its kernel by HTTP, and reports its stages. All packets are real.
//
// The boot server's tests and the benchmark beside dnsmasq use it. It changes nothing on the machine: the network is its caller's, see Wire.
package netload

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// The network that Wire makes.
const (
	ServerAddr = "10.1.0.1"  // of the server, which runs in the namespace Server on Device
	NodesAddr  = "10.1.0.2"  // behind which all nodes are
	Pool       = "10.1.64.0" // the nodes' addresses are in Pool/18
	PoolFirst  = "10.1.64.1"
	PoolLast   = "10.1.127.254"
	Prefix     = "10.1.0.0/16"
	Server     = "load-server" // name of the network namespace
	Device     = "eth0"        // in it
	NodesSide  = "nodes0"      // the device in this namespace
)

// Wire makes a wire between this network namespace, which has to be the caller's own, and a new one that is called Server. All addresses of
// the pool are here, without being listed one by one; ARP is answered for NodesAddr alone, behind which the server finds the others.
func Wire() error {
	err := ip(
		"netns add "+Server,
		"link add "+NodesSide+" type veth peer name "+Device+" netns "+Server,
		"address add "+NodesAddr+"/16 dev "+NodesSide,
		"link set "+NodesSide+" up",
		"route add local "+Pool+"/18 dev lo",
		"-n "+Server+" address add "+ServerAddr+"/16 dev "+Device,
		"-n "+Server+" link set "+Device+" up",
		"-n "+Server+" link set lo up",
		"-n "+Server+" route add "+Pool+"/18 via "+NodesAddr+" src "+ServerAddr,
	)
	if err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/conf/"+NodesSide+"/arp_ignore", []byte("1"), 0o644)
}

// Unwire takes away what Wire made.
func Unwire() error {
	return errors.Join(ip("route del local "+Pool+"/18 dev lo"), ip("link del "+NodesSide), ip("netns del "+Server))
}

func ip(commands ...string) error {
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}

// MAC is the i-th node's, from 0.
func MAC(i int) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 0, byte(i >> 16), byte(i >> 8), byte(i)}
}

// udpAddr is a node's, with a port that the kernel chooses.
func udpAddr(ip netip.Addr) *net.UDPAddr { return &net.UDPAddr{IP: ip.AsSlice()} }
