package login_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

func TestParsePortal(t *testing.T) {
	for s, want := range map[string]login.Portal{
		"10.0.0.1:3261,2":            {Host: "10.0.0.1", Port: 3261, Tag: 2},
		"10.0.0.1":                   {Host: "10.0.0.1", Port: 3260},
		"[fd99::1]:3260,1":           {Host: "fd99::1", Port: 3260, Tag: 1},
		"[fd99::1]":                  {Host: "fd99::1", Port: 3260},
		"fd99::1":                    {Host: "fd99::1", Port: 3260},
		"[fe80::1%eth0]:860,65535":   {Host: "fe80::1%eth0", Port: 860, Tag: 65535},
		"storage-1.example.org:3260": {Host: "storage-1.example.org", Port: 3260},
	} {
		if got, err := login.ParsePortal(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ",1", ":3260", "a:0", "a:65536", "a:x", "a b", "a,x", "a,65536", "[fd99::1", "-a", "[]:1", "a/b", "a\n", strings.Repeat("a", 300)} {
		if got, err := login.ParsePortal(s); err == nil {
			t.Errorf("%q is taken for %+v", s, got)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"iqn.2026-01.org.example:node1", "iqn.2001-04.com.example", "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309", "eui.02004567A425678D",
		"naa.52004567BA64678D", "naa.62004567BA64678D0123456789ABCDEF", "iqn.2003-01.org.linux-iscsi.host.x8664:sn.d3d8a2e5b2b1",
		"iqn.1992-08.com.netapp:sn.1:vs_3", "iqn.2026-01.org.example:" + strings.Repeat("x", 199),
	} {
		if err := login.CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"", "disk", "iqn.", "iqn.2026-13.org:a", "iqn.26-01.org:a", "iqn.2026-01.:a", "iqn.2026-01.org.example:a b", "iqn.2026-01.org.example:a\n",
		"iqn.2026-01.org.example:a\x00b", "iqn.2026-01.org.example:a,b", "iqn.2026-01.org.example:a=b", "eui.0200", "eui.02004567A425678G", "naa.1",
		"iqn.2026-01.org.example:" + strings.Repeat("x", 200), "iqn.2026-01.org.example:\xff",
	} {
		if err := login.CheckName(name); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

func FuzzParsePDU(f *testing.F) {
	f.Add(make([]byte, 48))
	f.Add(append([]byte{0x23, 0x81, 0, 0, 0, 0, 0, 4}, make([]byte, 44)...))
	f.Add(append([]byte{0x23, 0x81, 0, 0, 255, 255, 255, 255}, make([]byte, 44)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := login.ParsePDU(b)
		if err == nil && len(p.Data) > len(b)-login.HeaderLen {
			t.Errorf("%d bytes of data out of %d", len(p.Data), len(b))
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add([]byte("TargetName=iqn.2026-01.org.example:a\x00TargetAddress=10.0.0.1:3260,1\x00"))
	f.Add([]byte("=\x00\x00a=b=c\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := login.ParseText(b)
		if err != nil {
			return
		}
		again, err := login.ParseText(text.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), text.Bytes()) {
			t.Errorf("%q reads as %q and then as %q, %v", b, text, again, err)
		}
		for _, p := range text {
			_, _ = login.ParsePortal(p.Value)
			_ = login.CheckName(p.Value)
		}
	})
}

// FuzzLogin has a target answer with what comes, in PDUs of the right stage or not.
func FuzzLogin(f *testing.F) {
	f.Add([]byte("AuthMethod=CHAP\x00"), []byte("CHAP_A=5\x00CHAP_I=1\x00CHAP_C=0xabcd\x00"), []byte("CHAP_N=target\x00CHAP_R=0x00\x00"), uint32(0x81_00_00))
	f.Add([]byte("AuthMethod=None\x00"), []byte("MaxBurstLength=512\x00FirstBurstLength=99999\x00"), []byte("X=y\x00"), uint32(0x87_81))
	f.Add([]byte("AuthMethod=None\x00"), []byte("HeaderDigest=CRC32C\x00"), []byte("TargetAddress=[::1]:3260,1\x00"), uint32(0x40_81))
	f.Fuzz(func(t *testing.T, one, two, three []byte, flags uint32) {
		c := &scripted{answers: [][]byte{one, two, three}, flags: flags}
		r, err := login.Login(t.Context(), c, login.Config{Initiator: initiator, Target: plain, MaxRecv: 65536, Header: login.PreferCRC32C,
			Auth: login.Auth{CHAP: &login.Secret{User: user, Secret: password}}})
		if err == nil && (r.MaxXmit < 512 || r.MaxXmit > 1<<20 || r.FirstBurst < 512 || r.FirstBurst > r.MaxBurst || r.MaxBurst > 16<<20) {
			t.Errorf("agreed on %+v", r)
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("it shows the secret: %v", err)
		}
	})
}

func FuzzLUNs(f *testing.F) {
	f.Add(append([]byte{0, 0, 0, 16, 0, 0, 0, 0}, make([]byte, 16)...))
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0, 0x41, 0x2c, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, lun := range login.ParseLUNs(b) {
			if lun < 0 || lun > 16383 {
				t.Errorf("LUN %d", lun)
			}
		}
	})
}
