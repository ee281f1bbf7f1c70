package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileForAnotherMachineIsChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "windlass.yaml")
	for text, want := range map[string]string{
		"scheme: [unix, https]\ntls_certificate: /etc/there/only.pem\ntls_key: /etc/there/only.key\ntls_ca: /etc/there/ca.pem\n": "",
		"port: many\n": "port",
		"prot: 80\n":   "did you mean port",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := CheckFile(file)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if CheckFile(file+"x") == nil {
		t.Error("a file that is not there is right")
	}
}
