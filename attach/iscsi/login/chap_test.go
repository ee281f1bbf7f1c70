package login_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func proof(h hash.Hash, id byte, secret string, challenge []byte) string {
	h.Write(append(append([]byte{id}, secret...), challenge...))
	return hex.EncodeToString(h.Sum(nil))
}

// chap is a target that asks for CHAP by one algorithm, proves itself in turn, and tells of one target.
func (f *fake) chap(algorithm string, h func() hash.Hash) {
	f.request()
	f.answer(stay, "AuthMethod=CHAP")
	if offer, _ := f.request().Get("CHAP_A"); !strings.Contains(","+offer+",", ","+algorithm+",") {
		f.t.Errorf("offered is %q, without %s", offer, algorithm)
	}
	challenge := bytes.Repeat([]byte{0xa5, 0x00, 0xff}, 10)
	f.answer(stay, "CHAP_A="+algorithm, "CHAP_I=0xc3", "CHAP_C=0b"+base64.StdEncoding.EncodeToString(challenge))
	said := f.request()
	name, _ := said.Get("CHAP_N")
	answer, _ := said.Get("CHAP_R")
	if name != user || answer != "0x"+proof(h(), 0xc3, password, challenge) {
		f.status(2, 1, 0)
		return
	}
	idText, _ := said.Get("CHAP_I")
	id, _ := strconv.Atoi(idText)
	text, _ := said.Get("CHAP_C")
	ours, _ := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	f.answer(toOperational, "CHAP_N="+outUser, "CHAP_R=0X"+strings.ToUpper(proof(h(), byte(id), outPassword, ours)))
	f.request()
	f.answer(toFull)
	for f.request() != nil {
		f.text("TargetName="+plain+"\x00", false)
	}
}

func TestAlgorithms(t *testing.T) {
	for algorithm, h := range map[string]func() hash.Hash{
		"5": md5.New, "6": sha1.New, "7": sha256.New, "8": func() hash.Hash { return sha3.New256() },
	} {
		t.Run(algorithm, func(t *testing.T) {
			address := fakeTarget(t, func(f *fake) { f.chap(algorithm, h) })
			auth := login.Auth{CHAP: &login.Secret{User: user, Secret: password}, Mutual: &login.Secret{User: outUser, Secret: outPassword}}
			targets, err := login.Discover(t.Context(), address, initiator, auth)
			if err != nil || len(targets) != 1 || targets[0].Name != plain || targets[0].Portals[0].Address() != address {
				t.Errorf("%+v, %v", targets, err)
			}
			auth.CHAP = &login.Secret{User: user, Secret: "wrongwrongwrong"}
			_, err = login.Discover(t.Context(), address, initiator, auth)
			wantError(t, err, fault.Forbidden, "authentication failed")
		})
	}
}
