package kmod

import (
	"slices"
	"testing"
)

func TestNodes(t *testing.T) {
	dir := fakeDir(t, map[string]string{
		"kernel/fs/fuse.ko":       "depends=|alias=fs-fuse|alias=devname:fuse|alias=char-major-10-229|alias=fs-fuseblk",
		"kernel/net/tun.ko":       "depends=|alias=char-major-10-200|alias=devname:net/tun",
		"kernel/block/loop.ko":    "depends=|alias=block-major-7-*|alias=char-major-10-237|alias=devname:loop-control",
		"kernel/block/pkt.ko":     "depends=|alias=block-major-97-3|alias=devname:pktcdvd/x",
		"kernel/evil.ko":          "depends=|alias=devname:../etc/passwd|alias=char-major-1-3",
		"kernel/root.ko":          "depends=|alias=devname:.|alias=char-major-1-3",
		"kernel/many.ko":          "depends=|alias=devname:many|alias=char-major-4-*",
		"kernel/nameless.ko":      "depends=|alias=char-major-5-1",
		"kernel/numberless.ko":    "depends=|alias=devname:x",
		"kernel/large.ko":         "depends=|alias=devname:large|alias=char-major-99999999999-1",
		"kernel/drivers/other.ko": "depends=|alias=pci:v1",
	}, nil)
	d := opened(t, dir)
	s, err := d.Resolve(Request{All: true})
	if err != nil {
		t.Fatal(err)
	}
	x, err := ParseIndex(d.Index(s, "1.2.3-test", nil).Text())
	if err != nil {
		t.Fatal(err)
	}
	got := (&Loader{index: x}).Nodes()
	want := []Node{{"fuse", false, 10, 229}, {"loop-control", false, 10, 237}, {"net/tun", false, 10, 200}, {"pktcdvd/x", true, 97, 3}}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
