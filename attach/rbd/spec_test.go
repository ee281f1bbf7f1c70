package rbd

import (
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// testKey is a key as Ceph makes them, of nobody.
var testKey = base64.StdEncoding.EncodeToString(append([]byte{1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 0}, []byte("sixteen secrets!")...))

func spec(change func(r *models.AttachRbd, o *models.RbdOptions)) *models.Attach {
	r := &models.AttachRbd{Monitors: []string{"10.0.0.1"}, Pool: new("rbd"), Image: new("debian"), Options: &models.RbdOptions{}}
	if change != nil {
		change(r, r.Options)
	}
	return &models.Attach{Kind: models.AttachKindRbd, Rbd: r}
}

func TestValidate(t *testing.T) {
	type attachRbd = models.AttachRbd
	type options = models.RbdOptions
	long := strings.Repeat("x", 256)
	for what, tt := range map[string]struct {
		change func(*attachRbd, *options)
		says   string // "" for what is right
	}{
		"plain":                       {nil, ""},
		"no options":                  {func(r *attachRbd, _ *options) { r.Options = nil }, ""},
		"names with signs":            {func(r *attachRbd, _ *options) { *r.Pool, *r.Image, r.Snapshot = "a.b-c_d", "e,f=ö", "v1:2" }, ""},
		"no monitors":                 {func(r *attachRbd, _ *options) { r.Monitors = nil }, "rbd.monitors"},
		"no pool":                     {func(r *attachRbd, _ *options) { r.Pool = nil }, "rbd.pool"},
		"empty image":                 {func(r *attachRbd, _ *options) { *r.Image = "" }, "rbd.image"},
		"pool with a blank":           {func(r *attachRbd, _ *options) { *r.Pool = "a b" }, "rbd.pool"},
		"pool with a slash":           {func(r *attachRbd, _ *options) { *r.Pool = "a/b" }, "rbd.pool"},
		"pool too long":               {func(r *attachRbd, _ *options) { *r.Pool = long }, "rbd.pool"},
		"pool that is not UTF-8":      {func(r *attachRbd, _ *options) { *r.Pool = "a\xff" }, "rbd.pool"},
		"image with a new line":       {func(r *attachRbd, _ *options) { *r.Image = "a\nb" }, "rbd.image"},
		"image with a tab":            {func(r *attachRbd, _ *options) { *r.Image = "a\tb" }, "rbd.image"},
		"image with a form feed":      {func(r *attachRbd, _ *options) { *r.Image = "a\fb" }, "rbd.image"},
		"image with NUL":              {func(r *attachRbd, _ *options) { *r.Image = "a\x00" }, "rbd.image"},
		"image with a snapshot":       {func(r *attachRbd, _ *options) { *r.Image = "a@b" }, "rbd.image"},
		"image with a wide blank":     {func(r *attachRbd, _ *options) { *r.Image = "a\u00a0b" }, "rbd.image"},
		"snapshot with a blank":       {func(r *attachRbd, _ *options) { r.Snapshot = "a windlass:x:1" }, "rbd.snapshot"},
		"snapshot with at":            {func(r *attachRbd, _ *options) { r.Snapshot = "a@b" }, "rbd.snapshot"},
		"snapshot too long":           {func(r *attachRbd, _ *options) { r.Snapshot = long[:251] }, "rbd.snapshot"},
		"no snapshot for the kernel":  {func(r *attachRbd, _ *options) { r.Snapshot = "-" }, "rbd.snapshot"},
		"snapshot to be written":      {func(r *attachRbd, o *options) { r.Snapshot, o.Rw = "v1", true }, "rbd.options.rw"},
		"both share and noshare":      {func(_ *attachRbd, o *options) { o.Share, o.Noshare = true, true }, "rbd.options.share and rbd.options.noshare"},
		"both ro and rw":              {func(_ *attachRbd, o *options) { o.Ro, o.Rw = true, true }, "rbd.options.rw and rbd.options.ro"},
		"both crc and nocrc":          {func(_ *attachRbd, o *options) { o.Crc, o.Nocrc = true, true }, "rbd.options.crc"},
		"user with a comma":           {func(_ *attachRbd, o *options) { o.Name = "a,secret=b" }, "rbd.options.name"},
		"user with a blank":           {func(_ *attachRbd, o *options) { o.Name = "a b" }, "rbd.options.name"},
		"user of nothing":             {func(_ *attachRbd, o *options) { o.Name = "client." }, "rbd.options.name"},
		"namespace with a comma":      {func(_ *attachRbd, o *options) { o.Namespace = "a,ro" }, "rbd.options.namespace"},
		"namespace with a slash":      {func(_ *attachRbd, o *options) { o.Namespace = "a/b" }, "rbd.options.namespace"},
		"fsid":                        {func(_ *attachRbd, o *options) { o.Fsid = "A4A5A6A7-0000-1111-2222-333344445555" }, ""},
		"fsid that is none":           {func(_ *attachRbd, o *options) { o.Fsid = "a4a5" }, "rbd.options.fsid"},
		"own address":                 {func(_ *attachRbd, o *options) { o.IP = "10.0.0.9" }, ""},
		"own address with a port":     {func(_ *attachRbd, o *options) { o.IP = "[fd00::9]:0" }, ""},
		"own address that is none":    {func(_ *attachRbd, o *options) { o.IP = "eth0" }, "rbd.options.ip"},
		"own address with more":       {func(_ *attachRbd, o *options) { o.IP = "10.0.0.9,nocrc" }, "rbd.options.ip"},
		"unknown ms_mode":             {func(_ *attachRbd, o *options) { o.MsMode = "fast" }, "rbd.options.ms_mode"},
		"unknown replica":             {func(_ *attachRbd, o *options) { o.ReadFromReplica = "yes" }, "rbd.options.read_from_replica"},
		"unknown compression":         {func(_ *attachRbd, o *options) { o.CompressionHint = "zstd" }, "rbd.options.compression_hint"},
		"location":                    {func(_ *attachRbd, o *options) { o.CrushLocation = "rack:r1|host:n7" }, ""},
		"location of nothing":         {func(_ *attachRbd, o *options) { o.CrushLocation = "rack:" }, "rbd.options.crush_location"},
		"location with a comma":       {func(_ *attachRbd, o *options) { o.CrushLocation = "rack:a,host:b" }, "rbd.options.crush_location"},
		"location twice":              {func(_ *attachRbd, o *options) { o.CrushLocation = "rack:a|rack:a" }, "rbd.options.crush_location"},
		"negative timeout":            {func(_ *attachRbd, o *options) { o.MountTimeout = -1 }, "rbd.options.mount_timeout"},
		"timeout of ages":             {func(_ *attachRbd, o *options) { o.MountTimeout = maxSeconds + 1 }, "rbd.options.mount_timeout"},
		"negative request timeout":    {func(_ *attachRbd, o *options) { o.OsdRequestTimeout = new(int64(-1)) }, "rbd.options.osd_request_timeout"},
		"no request timeout":          {func(_ *attachRbd, o *options) { o.OsdRequestTimeout = new(int64(0)) }, ""},
		"odd alloc_size":              {func(_ *attachRbd, o *options) { o.AllocSize = 5000 }, "rbd.options.alloc_size"},
		"small alloc_size":            {func(_ *attachRbd, o *options) { o.AllocSize = 256 }, "rbd.options.alloc_size"},
		"queue too deep":              {func(_ *attachRbd, o *options) { o.QueueDepth = 1 << 40 }, "rbd.options.queue_depth"},
		"two secrets":                 {func(_ *attachRbd, o *options) { o.Secret, o.Credential = testKey, "a" }, "rbd.options"},
		"secret file that is nowhere": {func(_ *attachRbd, o *options) { o.SecretFile = "key" }, "rbd.options.secret_file"},
		"credential that leads out":   {func(_ *attachRbd, o *options) { o.Credential = "../key" }, "rbd.options.credential"},
	} {
		t.Run(what, func(t *testing.T) {
			err := New(Config{}).Validate(spec(tt.change))
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want invalid that says %q", err, tt.says)
			}
		})
	}
	for _, none := range []*models.Attach{nil, {}} {
		if err := New(Config{}).Validate(none); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", none, err)
		}
	}
}

func (r *request) mustLine(t *testing.T, addrs []netip.AddrPort) string {
	t.Helper()
	line, err := r.line(addrs, mark{key: digest(), instance: "windlass", id: 7})
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestLine(t *testing.T) {
	type attachRbd = models.AttachRbd
	type options = models.RbdOptions
	d := New(Config{MountTimeout: 20 * time.Second, RequestTimeout: 90 * time.Second})
	for what, tt := range map[string]struct {
		change func(*attachRbd, *options)
		base   attach.Base
		want   string // between monitors and mark
	}{
		"plain":                  {nil, attach.Base{}, "name=admin,mount_timeout=20,osd_request_timeout=90 rbd debian -"},
		"only read":              {nil, attach.Base{ReadOnly: true}, "name=admin,ro,mount_timeout=20,osd_request_timeout=90 rbd debian -"},
		"only read, but rw":      {func(_ *attachRbd, o *options) { o.Rw = true }, attach.Base{ReadOnly: true}, "name=admin,rw,mount_timeout=20,osd_request_timeout=90 rbd debian -"},
		"snapshot":               {func(r *attachRbd, _ *options) { r.Snapshot = "v1" }, attach.Base{}, "name=admin,ro,mount_timeout=20,osd_request_timeout=90 rbd debian v1"},
		"timeouts of its own":    {func(_ *attachRbd, o *options) { o.MountTimeout, o.OsdRequestTimeout = 3, new(int64(0)) }, attach.Base{}, "name=admin,mount_timeout=3,osd_request_timeout=0 rbd debian -"},
		"user with his kind":     {func(_ *attachRbd, o *options) { o.Name, o.Secret = "client.a", testKey }, attach.Base{}, "name=a,secret=" + testKey + ",mount_timeout=20,osd_request_timeout=90 rbd debian -"},
		"force is for unmapping": {func(_ *attachRbd, o *options) { o.Force = true }, attach.Base{}, "name=admin,mount_timeout=20,osd_request_timeout=90 rbd debian -"},
		"all flags": {func(_ *attachRbd, o *options) {
			o.Share, o.Crc, o.CephRequiresSignatures, o.TCPNodelay, o.CephxSignMessages, o.AbortOnFull, o.LockOnRead, o.Exclusive, o.Notrim, o.Ro =
				true, true, true, true, true, true, true, true, true, true
		}, attach.Base{}, "name=admin,ro,share,crc,cephx_require_signatures,tcp_nodelay,cephx_sign_messages,abort_on_full,lock_on_read,exclusive,notrim,mount_timeout=20,osd_request_timeout=90 rbd debian -"},
		"all opposites": {func(_ *attachRbd, o *options) {
			o.Noshare, o.Nocrc, o.NocephRequiresSignatures, o.NotcpNodelay, o.NocephxSignMessages, o.Rw = true, true, true, true, true, true
		}, attach.Base{}, "name=admin,noshare,nocrc,nocephx_require_signatures,notcp_nodelay,nocephx_sign_messages,rw,mount_timeout=20,osd_request_timeout=90 rbd debian -"},
		"all values": {func(_ *attachRbd, o *options) {
			o.Fsid, o.IP, o.Namespace, o.MsMode = "A4A5A6A7-0000-1111-2222-333344445555", "10.0.0.9", "ns", "prefer-crc"
			o.ReadFromReplica, o.CrushLocation, o.CompressionHint = "localize", "rack:r1|host:h", "compressible"
			o.Osdkeepalive, o.OsdIdleTTL, o.LockTimeout, o.QueueDepth, o.AllocSize = 1, 2, 3, 4, 4096
		}, attach.Base{}, "name=admin,mount_timeout=20,osd_request_timeout=90,osdkeepalive=1,osd_idle_ttl=2,lock_timeout=3,queue_depth=4,alloc_size=4096," +
			"fsid=a4a5a6a7-0000-1111-2222-333344445555,ip=10.0.0.9,_pool_ns=ns,ms_mode=prefer-crc,read_from_replica=localize,crush_location=rack:r1|host:h,compression_hint=compressible rbd debian -"},
	} {
		t.Run(what, func(t *testing.T) {
			s := spec(tt.change)
			if err := d.Validate(s); err != nil {
				t.Fatal(err)
			}
			r, err := d.request(7, s, tt.base)
			if err != nil {
				t.Fatal(err)
			}
			line := r.mustLine(t, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:6789")})
			want := "10.0.0.1:6789 " + tt.want + " key:" + digest() + " windlass:windlass:7"
			if line != want {
				t.Errorf("%s\nwant %s", line, want)
			}
		})
	}
	r, err := d.request(7, spec(nil), attach.Base{})
	if err != nil {
		t.Fatal(err)
	}
	r.options = strings.Repeat("x", maxLine)
	if _, err := r.line(nil, mark{}); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "xxx") {
		t.Errorf("a line that is too long: %v", err)
	}
}

// TestShareKey: who may have the same device.
func TestShareKey(t *testing.T) {
	type attachRbd = models.AttachRbd
	type options = models.RbdOptions
	d := New(Config{RequestTimeout: time.Minute})
	key := func(id attach.ID, base attach.Base, change func(*attachRbd, *options)) string {
		r, err := d.request(id, spec(change), base)
		if err != nil {
			t.Fatal(err)
		}
		if !isShareKey(r.key) {
			t.Errorf("key %q", r.key)
		}
		return r.key
	}
	plain := key(1, attach.Base{}, nil)
	for what, same := range map[string]func(*attachRbd, *options){
		"the same": nil,
		"what is so anyway": func(_ *attachRbd, o *options) {
			o.Share, o.Crc, o.Rw, o.Name, o.MsMode = true, true, true, "admin", "legacy"
		},
		"the time that is usual":    func(_ *attachRbd, o *options) { o.MountTimeout, o.OsdRequestTimeout = 30, new(int64(60)) },
		"how it is unmapped":        func(_ *attachRbd, o *options) { o.Force = true },
		"monitors written at large": func(r *attachRbd, _ *options) { r.Monitors = []string{"v1:10.0.0.1:6789/0", "10.0.0.1"} },
	} {
		if got := key(2, attach.Base{}, same); got != plain {
			t.Errorf("%s: not shared", what)
		}
	}
	seen := map[string]string{plain: "plain"}
	for what, other := range map[string]func(*attachRbd, *options){
		"pool":          func(r *attachRbd, _ *options) { *r.Pool = "other" },
		"image":         func(r *attachRbd, _ *options) { *r.Image = "other" },
		"snapshot":      func(r *attachRbd, _ *options) { r.Snapshot = "v1" },
		"namespace":     func(_ *attachRbd, o *options) { o.Namespace = "n" },
		"read-only":     func(_ *attachRbd, o *options) { o.Ro = true },
		"user":          func(_ *attachRbd, o *options) { o.Name = "other" },
		"secret":        func(_ *attachRbd, o *options) { o.Secret = testKey },
		"monitors":      func(r *attachRbd, _ *options) { r.Monitors = []string{"10.0.0.2"} },
		"an option":     func(_ *attachRbd, o *options) { o.Notrim = true },
		"a time":        func(_ *attachRbd, o *options) { o.OsdRequestTimeout = new(int64(61)) },
		"noshare":       func(_ *attachRbd, o *options) { o.Noshare = true },
		"noshare again": nil, // below
	} {
		id := attach.ID(1)
		if other == nil {
			id, other = 2, func(_ *attachRbd, o *options) { o.Noshare = true }
		}
		got := key(id, attach.Base{}, other)
		if seen[got] != "" {
			t.Errorf("%s: shared with %s", what, seen[got])
		}
		seen[got] = what
	}
	if key(1, attach.Base{ReadOnly: true}, nil) == plain {
		t.Error("what is only read is shared with what is written")
	}
}
