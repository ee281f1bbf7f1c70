package image

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"aead.dev/minisign"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// signer has a new key.
type signer struct {
	public  string
	private minisign.PrivateKey
}

func newSigner(t *testing.T) signer {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer{public.String(), private}
}

func keyID(t *testing.T, s signer) uint64 {
	t.Helper()
	var k minisign.PublicKey
	if err := k.UnmarshalText([]byte(s.public)); err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

func (s signer) sign(text string) []byte {
	return minisign.SignWithComments(s.private, []byte(text), "made for n1", "made")
}

// site serves files by path.
func site(t *testing.T, files map[string][]byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if files[r.URL.Path] == nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(files[r.URL.Path])
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestASignatureOfOneOfTheKeysIsGood(t *testing.T) {
	a, b := newSigner(t), newSigner(t)
	url := site(t, map[string][]byte{"/d.json": []byte(debian), "/d.json.minisig": b.sign(debian), "/other/s": a.sign(debian)})
	for name, c := range map[string]struct {
		query string
		p     Proof
	}{
		"beside it":             {"", Proof{Keys: []string{b.public}}},
		"one of two":            {"", Proof{Keys: []string{a.public, b.public}}},
		"a query is left out":   {"?node=n1&token=hunter2#x", Proof{Keys: []string{b.public}}},
		"it may lie elsewhere":  {"", Proof{Keys: []string{a.public}, Signature: url + "/other/s"}},
		"none is asked for":     {"", Proof{}},
		"a place without a key": {"", Proof{Signature: url + "/gone"}},
	} {
		data, comment, err := Read(t.Context(), quick(), "windlass.container", url+"/d.json"+c.query, c.p)
		if err != nil || string(data) != debian || len(c.p.Keys) > 0 && comment != "made for n1" {
			t.Errorf("%s: %q, %q, %v", name, data, comment, err)
		}
	}
}

func TestASignatureThatIsNotGoodIsRefused(t *testing.T) {
	a, b := newSigner(t), newSigner(t)
	good := a.sign(debian)
	var forged minisign.Signature // says that it is by a's key
	if err := forged.UnmarshalText(b.sign(debian)); err != nil {
		t.Fatal(err)
	}
	forged.KeyID = keyID(t, a)
	url := site(t, map[string][]byte{"/d.json": []byte(debian), "/unsigned.json": []byte(debian), "/altered.json": []byte(debian + " "), "/altered.json.minisig": good,
		"/d.json.minisig": good, "/comment": bytes.Replace(good, []byte("made for n1"), []byte("made for n2"), 1), "/untrusted": bytes.Replace(good, []byte(": made\n"), []byte(": other\n"), 1),
		"/large": append(bytes.Clone(good), make([]byte, mostSignature)...), "/empty": {}, "/page": []byte("<html>not found</html>"), "/forged": []byte(forged.String()),
		"/short": good[:len(good)/2]})
	for name, c := range map[string]struct {
		file, signature, key string
		kind                 fault.Kind
		says                 string
	}{
		"signed by somebody else":  {"/d.json", "", b.public, fault.Corrupt, "it was signed by key"},
		"altered":                  {"/altered.json", "", a.public, fault.Corrupt, "was changed since key"},
		"not signed":               {"/unsigned.json", "", a.public, fault.NotFound, "windlass.container.key asks for a signature"},
		"another comment":          {"/d.json", "/comment", a.public, fault.Corrupt, "was changed since key"},
		"much too large":           {"/d.json", "/large", a.public, fault.TooLarge, "8192"},
		"nothing":                  {"/d.json", "/empty", a.public, fault.Corrupt, "none of minisign"},
		"half of it":               {"/d.json", "/short", a.public, fault.Corrupt, "none of minisign"},
		"a page of the web server": {"/d.json", "/page", a.public, fault.Corrupt, "none of minisign"},
		"forged":                   {"/d.json", "/forged", a.public, fault.Corrupt, "was changed since key"},
	} {
		p := Proof{Keys: []string{c.key}}
		if c.signature != "" {
			p.Signature = url + c.signature
		}
		data, _, err := Read(t.Context(), quick(), "windlass.container", url+c.file, p)
		if data != nil || !fault.Is(err, c.kind) || !Hopeless(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %d bytes, %v (%v)", name, len(data), err, fault.KindOf(err))
		}
	}
	p := Proof{Keys: []string{a.public}, Signature: url + "/untrusted"} // that comment is nobody's word
	if _, _, err := Read(t.Context(), quick(), "windlass.container", url+"/d.json", p); err != nil {
		t.Error(err)
	}
}

func TestAProofThatNobodyUnderstandsIsNotGiven(t *testing.T) {
	url := site(t, map[string][]byte{"/d.json": []byte(debian)})
	o := cmdline.Parse("windlass.container.key=RWx windlass.container="+url+"/d.json", nil)
	if _, _, err := Read(t.Context(), quick(), "windlass.container", o.Container, Proof(o.ContainerProof)); !fault.Is(err, fault.Invalid) || !Hopeless(err) {
		t.Error(err)
	}
}

func TestAServerThatFailsToGiveTheSignatureIsAskedAgain(t *testing.T) {
	a := newSigner(t)
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer failing.Close()
	url := site(t, map[string][]byte{"/d.json": []byte(debian)})
	_, _, err := Read(t.Context(), quick(), "windlass.container", url+"/d.json", Proof{Keys: []string{a.public}, Signature: failing.URL + "/s?token=hunter2"})
	if !fault.Is(err, fault.Backend) || Hopeless(err) || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

// TestSignaturesOfMinisign reads what Debian's minisign has made, as it signs today and with -l.
func TestSignaturesOfMinisign(t *testing.T) {
	file, err := os.ReadFile("testdata/minisign.pub")
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Split(string(file), "\n")[1]
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"debian.json": "file:debian.json hashed", "legacy.json": "file:legacy.json"} {
		o := cmdline.Parse("windlass.container.key="+key+" windlass.container=file://"+dir+"/testdata/"+name, nil)
		data, comment, err := Read(t.Context(), quick(), "windlass.container", o.Container, Proof(o.ContainerProof))
		if err != nil || len(data) == 0 || !strings.HasSuffix(comment, want) {
			t.Errorf("%s: %q, %v", name, comment, err)
		}
	}
}

func TestWhereASignatureLies(t *testing.T) {
	for url, want := range map[string]string{
		"http://h/d.json": "http://h/d.json.minisig", "https://u:p@h:8/a/d.json?x=1#y": "https://u:p@h:8/a/d.json.minisig", "http://h": "http://h/.minisig",
		"http://h/a%2Fb": "http://h/a%2Fb.minisig", "file:///d.json": "file:///d.json.minisig",
	} {
		if got := beside(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
