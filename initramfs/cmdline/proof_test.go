package cmdline

import (
	"strings"
	"testing"
)

const key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3" // of minisign's own releases

func TestKeysOfSignatures(t *testing.T) {
	o := Parse("windlass.container.key="+key+" windlass.container.key="+key+" windlass.container.signature=http://h/s windlass.config.key="+key, nil)
	if len(o.Warnings) > 0 {
		t.Errorf("%q", o.Warnings)
	}
	compare(t, Proof{Keys: []string{key, key}, Signature: "http://h/s"}, o.ContainerProof)
	compare(t, Proof{Keys: []string{key}}, o.ConfigProof)
}

// To ignore a word that asks for a proof would be to take any file.
func TestAProofThatIsNotUnderstoodIsNotIgnored(t *testing.T) {
	if o := Parse("windlass.container-digest=1 windlass.configs.key="+key, nil); o.ContainerProof.Wrong == "" || o.ConfigProof.Wrong == "" {
		t.Errorf("%+v", o)
	}
	for _, word := range []string{"contaner.key=" + key, "confg-digest=1", "contianer.signature=http://h/s", "key=" + key} { // whose, nobody knows
		if o := Parse("windlass."+word, nil); o.ContainerProof.Wrong == "" || o.ConfigProof.Wrong == "" || len(o.Warnings) != 1 {
			t.Errorf("windlass.%s: %+v", word, o)
		}
	}
	for _, word := range []string{"digest=md5:1", "digest=", "digest", "key=", "key", "key=RWQf", "key=" + strings.Repeat("A", 56), "key=" + key + "=", "kye=" + key, "x",
		"signature=", "sha256=" + strings.Repeat("0", 64)} {
		for _, of := range []string{"container", "config"} {
			o := Parse("windlass."+of+"."+word+" windlass."+of+".key="+key, nil)
			mine, other := o.ContainerProof.Wrong, o.ConfigProof.Wrong
			if of == "config" {
				mine, other = other, mine
			}
			if mine == "" || other != "" || len(o.Warnings) != 1 {
				t.Errorf("windlass.%s.%s: %q, %q, %q", of, word, mine, other, o.Warnings)
			}
		}
	}
}
