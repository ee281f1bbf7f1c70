package login_test

import (
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// secured lets a login without authentication into the operational stage.
func (f *fake) secured() {
	f.request()
	f.answer(toOperational, "AuthMethod=None", "TargetPortalGroupTag=5")
	f.request()
}

func TestLoginInPieces(t *testing.T) {
	address := fakeTarget(t, func(f *fake) {
		f.request()
		f.answer(stay, "AuthMethod=None") // says that it is not ready
		f.request()
		f.answer(toOperational)
		f.request()
		f.raw(stayOper|more, "HeaderDigest=CRC32C\x00MaxRecvDataSegmentLen")
		if f.request(); f.last.Header[1]&0x80 != 0 || len(f.last.Data) != 0 {
			f.t.Errorf("asks for the rest with flags %#x and %q", f.last.Header[1], f.last.Data)
		}
		f.raw(stayOper, "gth=65536\x00MaxBurstLength=16384\x00FirstBurstLength=32768\x00X-own=1\x00InitialR2T=Yes\x00TargetAlias=disk\x00")
		if v, _ := f.request().Get("X-own"); v != "NotUnderstood" {
			f.t.Errorf("answers %q to a key that nobody knows", v)
		}
		f.answer(toFull, "ImmediateData=No")
	})
	r, err := logIn(t, address, login.Config{Target: plain, Header: login.PreferCRC32C})
	if err != nil {
		t.Fatal(err)
	}
	want := login.Params{Header: true, MaxRecv: 128 << 10, MaxXmit: 65536, MaxBurst: 16384, FirstBurst: 16384, InitialR2T: true, Time2Wait: 2, Alias: "disk"}
	if r.Params != want {
		t.Errorf("agreed on %+v\nwant %+v", r.Params, want)
	}
}

func TestHostileAnswers(t *testing.T) {
	chap := login.Auth{CHAP: &login.Secret{User: user, Secret: password}}
	both := login.Auth{CHAP: chap.CHAP, Mutual: &login.Secret{User: outUser, Secret: outPassword}}
	challenge := func(f *fake, pairs ...string) {
		f.request()
		f.answer(stay, "AuthMethod=CHAP")
		f.request()
		f.answer(stay, pairs...)
	}
	for what, tt := range map[string]struct {
		serve func(*fake)
		cfg   login.Config
		kind  fault.Kind
		says  string
	}{
		"closes at once": {func(f *fake) { f.conn.Close() }, login.Config{}, fault.Backend, "the target"},
		"speaks HTTP": {func(f *fake) {
			_, _ = f.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat("x", 1000)))
		},
			login.Config{}, fault.Backend, "PDU"},
		"an enormous PDU": {func(f *fake) {
			p := [48]byte{0x23, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
			_, _ = f.conn.Write(append(p[:], make([]byte, 2000)...))
		}, login.Config{}, fault.Backend, "bytes"},
		"rejects": {func(f *fake) { f.request(); f.send(login.PDU{Header: [48]byte{0x3f, 0, 4}}) }, login.Config{}, fault.Backend, "rejects"},
		"another PDU": {func(f *fake) { f.request(); f.send(login.PDU{Header: [48]byte{0x21}}) }, login.Config{}, fault.Backend,
			"answers a login with a PDU 0x21"},
		"never ends": {func(f *fake) {
			for f.request() != nil {
				f.answer(stay)
			}
		}, login.Config{}, fault.Backend, "comes to no end"},
		"more and more": {func(f *fake) {
			for f.request() != nil {
				f.answer(stay|more, strings.Repeat("x", 60000))
			}
		}, login.Config{}, fault.Backend, "target"},
		"skips stages":          {func(f *fake) { f.request(); f.answer(0x80 | 3) }, login.Config{}, fault.Backend, "stage 3"},
		"answers another stage": {func(f *fake) { f.request(); f.answer(stayOper) }, login.Config{}, fault.Backend, "stage 1"},
		"goes on while it has more to say": {func(f *fake) { f.request(); f.answer(toOperational | more) }, login.Config{}, fault.Backend,
			"before its answer is complete"},
		"a number out of order": {func(f *fake) { f.request(); f.answer(toOperational); f.request(); f.statSN = 99; f.answer(toFull) },
			login.Config{}, fault.Backend, "number 99"},
		"a key twice": {func(f *fake) { f.secured(); f.answer(toFull, "ImmediateData=No", "ImmediateData=Yes") }, login.Config{}, fault.Backend, "twice"},
		"no key":      {func(f *fake) { f.secured(); f.answer(toFull, "nonsense") }, login.Config{}, fault.Backend, "no key=value"},
		"a negative length": {func(f *fake) { f.secured(); f.answer(toFull, "MaxRecvDataSegmentLength=-1") }, login.Config{}, fault.Backend,
			"MaxRecvDataSegmentLength"},
		"a length of nothing": {func(f *fake) { f.secured(); f.answer(toFull, "MaxBurstLength=0") }, login.Config{}, fault.Backend, "MaxBurstLength"},
		"a length beyond all": {func(f *fake) { f.secured(); f.answer(toFull, "FirstBurstLength=99999999999999999999") }, login.Config{}, fault.Backend,
			"FirstBurstLength"},
		"neither yes nor no": {func(f *fake) { f.secured(); f.answer(toFull, "InitialR2T=maybe") }, login.Config{}, fault.Backend, "InitialR2T"},
		"refuses digests": {func(f *fake) { f.secured(); f.answer(toFull, "HeaderDigest=None") }, login.Config{Header: login.CRC32C}, fault.Backend,
			"HeaderDigest=CRC32C"},
		"rejects digests": {func(f *fake) { f.secured(); f.answer(toFull, "DataDigest=Reject") }, login.Config{Data: login.CRC32C}, fault.Backend,
			"DataDigest=CRC32C"},
		"insists on digests": {func(f *fake) { f.secured(); f.answer(toFull, "DataDigest=CRC32C") }, login.Config{}, fault.Backend, "insists"},
		"asks for CHAP":      {func(f *fake) { f.request(); f.answer(stay, "AuthMethod=CHAP") }, login.Config{}, fault.Forbidden, "asks for CHAP"},
		"asks for Kerberos":  {func(f *fake) { f.request(); f.answer(stay, "AuthMethod=KRB5") }, login.Config{Auth: chap}, fault.Forbidden, "KRB5"},
		"needs no proof and gives none": {func(f *fake) { f.request(); f.answer(toOperational, "AuthMethod=None") }, login.Config{Auth: both}, fault.Backend,
			"stage"},
		"gives no proof when asked":        {func(f *fake) { f.request(); f.answer(stay, "AuthMethod=None") }, login.Config{Auth: both}, fault.Forbidden, "None"},
		"a challenge without an algorithm": {func(f *fake) { challenge(f, "CHAP_I=1", "CHAP_C=0x0102") }, login.Config{Auth: chap}, fault.Backend, "algorithm"},
		"an algorithm of its own": {func(f *fake) { challenge(f, "CHAP_A=99", "CHAP_I=1", "CHAP_C=0x0102") }, login.Config{Auth: chap}, fault.Backend,
			"not offered"},
		"an identifier too large": {func(f *fake) { challenge(f, "CHAP_A=5", "CHAP_I=256", "CHAP_C=0x0102") }, login.Config{Auth: chap}, fault.Backend,
			"identifier"},
		"a challenge of nothing": {func(f *fake) { challenge(f, "CHAP_A=5", "CHAP_I=1", "CHAP_C=0x") }, login.Config{Auth: chap}, fault.Backend, "challenge"},
		"a challenge too long": {func(f *fake) { challenge(f, "CHAP_A=5", "CHAP_I=1", "CHAP_C=0x"+strings.Repeat("ab", 1025)) }, login.Config{Auth: chap},
			fault.Backend, "challenge"},
		"reflects our challenge": {func(f *fake) {
			challenge(f, "CHAP_A=5", "CHAP_I=1", "CHAP_C=0x0102")
			ours, _ := f.request().Get("CHAP_C")
			f.answer(stay, "CHAP_A=5", "CHAP_I=1", "CHAP_C="+ours)
		}, login.Config{Auth: both}, fault.Backend, "with another challenge"},
		"reflects our answer": {func(f *fake) {
			challenge(f, "CHAP_A=5", "CHAP_I=1", "CHAP_C=0x0102")
			ours, _ := f.request().Get("CHAP_R")
			f.answer(toOperational, "CHAP_N="+outUser, "CHAP_R="+ours)
		}, login.Config{Auth: both}, fault.Forbidden, "not proved itself"},
		"moved to nowhere":  {func(f *fake) { f.request(); f.status(1, 1, 0, "TargetAddress=:0") }, login.Config{}, fault.Backend, "cannot be read"},
		"an unheard status": {func(f *fake) { f.request(); f.status(9, 9, 0) }, login.Config{}, fault.Backend, "0909"},
		"not allowed":       {func(f *fake) { f.request(); f.status(2, 2, 0) }, login.Config{}, fault.Forbidden, "this initiator is not allowed"},
		"out of service":    {func(f *fake) { f.request(); f.status(3, 1, 0) }, login.Config{}, fault.Unavailable, "not in service"},
	} {
		t.Run(what, func(t *testing.T) {
			tt.cfg.Target = plain
			_, err := logIn(t, fakeTarget(t, tt.serve), tt.cfg)
			wantError(t, err, tt.kind, tt.says)
		})
	}
}

func TestRedirects(t *testing.T) {
	s := startTGT(t)
	address := fakeTarget(t, func(f *fake) {
		f.request()
		f.status(1, 1, 0, "TargetAddress="+s.address+",1")
	})
	if targets, err := login.Discover(t.Context(), address, initiator, login.Auth{}); err != nil || len(targets) != 3 {
		t.Errorf("%v, %v", targets, err)
	}
	var circle string
	circle = fakeTarget(t, func(f *fake) {
		f.request()
		f.status(1, 2, 0, "TargetAddress="+circle)
		f.conn.Close()
	})
	_, err := login.Discover(t.Context(), circle, initiator, login.Auth{})
	wantError(t, err, fault.Backend, "sends us elsewhere")
}

func TestDiscoverHostile(t *testing.T) {
	for what, tt := range map[string]struct {
		text string
		says string
	}{
		"an address before a name": {"TargetAddress=10.0.0.1:3260,1\x00", "before its name"},
		"no name":                  {"TargetName=disk\x00", "name is none"},
		"no address":               {"TargetName=" + plain + "\x00TargetAddress=a b:1\x00", "address of " + plain},
		"no end":                   {"", "comes to no end"},
	} {
		t.Run(what, func(t *testing.T) {
			address := fakeTarget(t, func(f *fake) {
				f.secured()
				f.answer(toFull)
				for f.request() != nil {
					f.text(tt.text, tt.text == "")
				}
			})
			_, err := login.Discover(t.Context(), address, initiator, login.Auth{})
			wantError(t, err, fault.Backend, tt.says)
		})
	}
}
