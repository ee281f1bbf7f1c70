package network

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What routers announce and the kernel only passes on: RFC 8106, and rtnetlink(7) RTM_NEWNDUSEROPT.
const (
	groupUserOptions = 20
	newUserOption    = 68
	optionDNS        = 25
	optionSearch     = 31
)

// announcements listens for name servers. What is given back passes them on until ctx ends.
func announcements(ctx context.Context, take func(index int, dns []netip.Addr, search []string)) (func(), error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, groupUserOptions)
	if err != nil {
		return nil, fmt.Errorf("listen to the kernel: %w", err)
	}
	f := s.GetFd()
	if err := unix.SetNonblock(f, true); err != nil {
		s.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	return func() {
		defer s.Close()
		for ctx.Err() == nil {
			// So that the end of ctx is seen; messages are rare.
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(f), Events: unix.POLLIN}}, 1000); err != nil || n == 0 {
				continue
			}
			messages, _, err := s.Receive()
			if err != nil {
				continue
			}
			for _, m := range messages {
				if m.Header.Type == newUserOption {
					if index, dns, search := userOption(m.Data); len(dns)+len(search) > 0 {
						take(index, dns, search)
					}
				}
			}
		}
	}, nil
}

// userOption reads struct nduseroptmsg and the option after it.
func userOption(b []byte) (index int, dns []netip.Addr, search []string) {
	if len(b) < 16 || b[0] != unix.AF_INET6 {
		return 0, nil, nil
	}
	size := int(binary.NativeEndian.Uint16(b[2:]))
	index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	b = b[16:]
	b = b[:min(size, len(b))]
	for len(b) >= 8 {
		n := int(b[1]) * 8
		if n == 0 || n > len(b) {
			break
		}
		life := binary.BigEndian.Uint32(b[4:])
		switch {
		case life == 0: // it is to be forgotten; what is known stays better than nothing
		case b[0] == optionDNS:
			for a := b[8:n]; len(a) >= 16; a = a[16:] {
				dns = append(dns, netip.AddrFrom16([16]byte(a[:16])))
			}
		case b[0] == optionSearch:
			search = append(search, domains(b[8:n])...)
		}
		b = b[n:]
	}
	return index, dns, search
}

// domains reads names as DNS has them: labels with their lengths.
func domains(b []byte) (list []string) {
	var labels []string
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 {
			if len(labels) > 0 {
				list, labels = append(list, strings.Join(labels, ".")), nil
			}
			b = b[1:]
			continue
		}
		if n > 63 || n >= len(b) {
			break
		}
		labels, b = append(labels, string(b[1:1+n])), b[1+n:]
	}
	return list
}
