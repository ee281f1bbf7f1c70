package script

import (
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// anyMAC stands for the MAC of a node that is not known when a script is written; iPXE fills it in.
const anyMAC = "00:00:00:00:00:00"

// Written renders what a listed node boots, for files that are written before it asks. self is the URL of its script there.
func (s *Set) Written(mac, server, self string) (b *Boot, ipxe string, err error) {
	n, ok := s.Node(mac)
	if !ok {
		return nil, "", fault.New(fault.NotFound, "%s is not a listed node", mac)
	}
	if b, err = s.boot(n, server); err != nil {
		return nil, "", err
	}
	b.Script = self
	ipxe, err = s.script(b)
	return b, ipxe, err
}

// Unlisted is Written for nodes that are not listed: the places of the MAC hold what hyphen and colon say, such as ${netX/mac:hexhyp}. The
// error is NotFound when such nodes are ignored.
func (s *Set) Unlisted(server, self, hyphen, colon string) (b *Boot, ipxe string, err error) {
	if s.c.DefaultGroup == "" {
		return nil, "", fault.New(fault.NotFound, "nodes that are not listed are ignored")
	}
	if b, ipxe, err = s.Written(anyMAC, server, self); err != nil {
		return nil, "", err
	}
	fill := strings.NewReplacer(anyMAC, colon, "00-00-00-00-00-00", hyphen, "node-000000000000", "node-"+hyphen)
	b.CommandLine = fill.Replace(b.CommandLine)
	return b, fill.Replace(ipxe), nil
}
