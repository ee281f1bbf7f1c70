package rbd

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// source says where the secret of the request comes from.
func source(o *models.RbdOptions) credential.Source {
	return credential.Source{Secret: o.Secret, File: o.SecretFile, Name: o.Credential}
}

// field says which of the request's fields the secret comes from.
func field(o *models.RbdOptions) string {
	switch {
	case o.SecretFile != "":
		return "rbd.options.secret_file"
	case o.Credential != "":
		return "rbd.options.credential"
	}
	return "rbd.options.secret"
}

// secretOf makes of text, a key alone or a keyring, the key of user. Nothing of text is in its errors but names of users.
func secretOf(field, text, user string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", nil
	}
	key := text
	if strings.ContainsAny(text, "[ \t\n") {
		var err error
		if key, err = fromKeyring(field, text, user); err != nil {
			return "", err
		}
	}
	if !isKey(key) {
		err := fault.New(fault.Invalid, "%s is no key of Ceph", field)
		return "", fault.Hintf(err, "a key is what `ceph auth get-key client.%s` prints: 40 letters or so, with == at the end", user)
	}
	return key, nil
}

// fromKeyring reads what `ceph auth get` prints: sections of users, with the key and capabilities of each.
func fromKeyring(field, text, user string) (string, error) {
	keys := map[string]string{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSpace(strings.TrimSuffix(name, "]"))
			continue
		}
		word, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(word) == "key" && section != "" {
			keys[section] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	if key, ok := keys["client."+user]; ok {
		return key, nil
	}
	if len(keys) == 0 {
		err := fault.New(fault.Invalid, "%s is neither a key of Ceph nor a keyring", field)
		return "", fault.Hintf(err, "give what `ceph auth get client.%s` or `ceph auth get-key client.%s` prints", user, user)
	}
	err := fault.New(fault.Invalid, "%s is a keyring without client.%s", field, user)
	return "", fault.Hintf(err, "rbd.options.name says whose key is wanted; the keyring has %s", strings.Join(names(keys), ", "))
}

// names lists the users of a keyring; what is no name may be a key in the wrong place, and is not shown.
func names(keys map[string]string) []string {
	var all []string
	for name := range keys {
		if user, ok := strings.CutPrefix(name, "client."); ok && checkWord("", user, "") == nil && len(user) <= 64 {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return []string{"none of a client"}
	}
	slices.Sort(all)
	return all
}

// isKey looks at a key as the kernel does (ceph_crypto_key_decode): base64 of type, time of creation (8 bytes), length and key.
func isKey(s string) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	const head = 2 + 8 + 2
	if err != nil || strings.ContainsAny(s, "\r\n") || len(b) <= head {
		return false
	}
	kind := binary.LittleEndian.Uint16(b) // 1: AES-128, 2: AES-256
	return (kind == 1 || kind == 2) && int(binary.LittleEndian.Uint16(b[10:])) == len(b)-head
}
