package script

import (
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// anyMAC stands for the MAC of a node that is not known when a script is written; iPXE fills it in.
const anyMAC = "00:00:00:00:00:00"

// Unlisted renders what nodes boot that are not listed, for files that are written before they ask: the places of the MAC hold what
// hyphen and colon say, such as ${net0/mac:hexhyp}. The error is NotFound when such nodes are ignored.
func (s *Set) Unlisted(server, hyphen, colon string) (b *Boot, ipxe string, err error) {
	n, ok := s.Node(anyMAC)
	if !ok {
		return nil, "", fault.New(fault.NotFound, "nodes that are not listed are ignored")
	}
	if b, err = s.boot(n, server); err != nil {
		return nil, "", err
	}
	if ipxe, err = s.script(b); err != nil {
		return nil, "", err
	}
	fill := strings.NewReplacer("00:00:00:00:00:00", colon, "00-00-00-00-00-00", hyphen, "node-000000000000", "node-"+hyphen)
	b.CommandLine = fill.Replace(b.CommandLine)
	return b, fill.Replace(ipxe), nil
}
