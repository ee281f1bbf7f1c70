package login

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Target is a target that a host tells of.
type Target struct {
	Name    string
	Portals []Portal // where it can be reached; one at least
}

// Discover asks the host at address, HOST:PORT, what targets it has for the initiator (SendTargets). Nothing is kept: the session ends
// with the call. Errors have kinds, as those of Login.
func Discover(ctx context.Context, address, initiator string, auth Auth) ([]Target, error) {
	targets, err := discover(ctx, address, initiator, auth)
	if err != nil {
		return nil, fmt.Errorf("discover the targets at %s: %w", address, err)
	}
	return targets, nil
}

func discover(ctx context.Context, address, initiator string, auth Auth) ([]Target, error) {
	s, err := open(ctx, address, Config{Initiator: initiator, ISID: RandomISID(), Auth: auth})
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	t, err := s.text(ctx, Text{{"SendTargets", "All"}})
	if err != nil {
		return nil, err
	}
	s.logout(ctx)
	return targets(t, s.conn.peer())
}

// targets sorts out an answer to SendTargets. A target without an address, or with one that is none, is where the answer came from.
func targets(t Text, peer Portal) ([]Target, error) {
	var all []Target
	for _, p := range t {
		switch p.Key {
		case "TargetName":
			if err := CheckName(p.Value); err != nil {
				return nil, fault.New(fault.Backend, "a target's name is none: %w", err)
			}
			all = append(all, Target{Name: p.Value})
		case "TargetAddress":
			if len(all) == 0 {
				return nil, fault.New(fault.Backend, "the host tells the address of a target before its name")
			}
			portal, err := ParsePortal(p.Value)
			if err != nil {
				return nil, fault.New(fault.Backend, "the address of %s is none: %w", all[len(all)-1].Name, err)
			}
			if a, err := netip.ParseAddr(portal.Host); err == nil && a.IsUnspecified() {
				portal.Host = peer.Host
			}
			last := &all[len(all)-1]
			last.Portals = append(last.Portals, portal)
		}
	}
	for i := range all {
		if len(all[i].Portals) == 0 {
			all[i].Portals = []Portal{peer}
		}
	}
	return all, nil
}

// peer is who is at the other end.
func (c *TCP) peer() Portal {
	a := c.conn.RemoteAddr().(*net.TCPAddr)
	host := a.IP.String()
	if a.Zone != "" {
		host += "%" + a.Zone
	}
	return Portal{Host: host, Port: a.Port}
}

// RandomISID makes an ISID of the random kind.
func RandomISID() [6]byte {
	var id [6]byte
	_, _ = rand.Read(id[:])
	return MakeISID([5]byte(id[1:]))
}

// MakeISID makes an ISID of the random kind (RFC 7143, 11.12.5) of five bytes.
func MakeISID(b [5]byte) [6]byte { return [6]byte{0x80, b[0], b[1], b[2], b[3], b[4]} }
