package rbd

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func TestSecret(t *testing.T) {
	keyring := "# of a node\n[client.other]\n\tkey = AAAA\n[client.node]\n\tkey = " + testKey + "\n\tcaps mon = \"profile rbd\"\n"
	for what, tt := range map[string]struct{ text, want, says string }{
		"nothing":                {"", "", ""},
		"a key":                  {testKey, testKey, ""},
		"a key in a line":        {" " + testKey + "\r\n", testKey, ""},
		"a keyring":              {keyring, testKey, ""},
		"a keyring with quotes":  {"[client.node]\nkey=\"" + testKey + "\"", testKey, ""},
		"a keyring of others":    {strings.ReplaceAll(keyring, "client.node", "client.third"), "", "without client.node"},
		"a bad key in a keyring": {"[client.node]\nkey = " + testKey[4:], "", "no key of Ceph"},
		"a password":             {"TOPSECRET", "", "no key of Ceph"},
		"half a key":             {testKey[:20], "", "no key of Ceph"},
		"a key and more":         {testKey + ",nocrc", "", "no key of Ceph"},
		"two words":              {"TOPSECRET TOPSECRET", "", "neither a key"},
		"base64 of little":       {"AQAB", "", "no key of Ceph"},
		"base64 of a wrong kind": {base64.StdEncoding.EncodeToString(append([]byte{9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 0}, []byte("sixteen secrets!")...)), "", "no key of Ceph"},
	} {
		got, err := secretOf("rbd.options.secret", tt.text, "node")
		if tt.says == "" {
			if err != nil || got != tt.want {
				t.Errorf("%s: %q, %v", what, got, err)
			}
			continue
		}
		if got != "" || !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "rbd.options.secret") {
			t.Errorf("%s: %q, %v; want invalid that says %q", what, got, err, tt.says)
		}
		if all := err.Error() + fault.HintOf(err); strings.Contains(all, "TOPSECRET") || strings.Contains(all, testKey[4:20]) {
			t.Errorf("%s: the error quotes the secret: %s", what, all)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"node": testKey + "\n", "ring": "[client.admin]\nkey = " + testKey + "\n", "bad": "TOPSECRET"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := New(Config{Credentials: credential.Store{Dir: dir}})
	request := func(change func(*models.AttachRbd, *models.RbdOptions)) (*request, error) {
		return d.request(1, spec(change), attach.Base{})
	}
	for _, change := range []func(*models.AttachRbd, *models.RbdOptions){
		func(_ *models.AttachRbd, o *models.RbdOptions) { o.Credential = "node" },
		func(_ *models.AttachRbd, o *models.RbdOptions) { o.Credential = "ring" },
		func(_ *models.AttachRbd, o *models.RbdOptions) { o.SecretFile = dir + "/node" },
	} {
		if r, err := request(change); err != nil || !strings.Contains(r.options, ",secret="+testKey+",") {
			t.Errorf("%v", err)
		}
	}
	for name, kind := range map[string]fault.Kind{"bad": fault.Invalid, "missing": fault.NotFound} {
		_, err := request(func(_ *models.AttachRbd, o *models.RbdOptions) { o.Credential = name })
		if !fault.Is(err, kind) || !strings.Contains(err.Error(), "rbd.options.credential") || strings.Contains(err.Error(), "TOPSECRET") {
			t.Errorf("%s: %v, want %s", name, err, kind)
		}
	}
}
