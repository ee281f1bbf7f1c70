package badinput

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

const hundredMB = 100 << 20

// endless gives as many bytes of a JSON string as are wanted.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.left -= n
	return n, nil
}

// A large body is refused before it is read, whether its length is told or not; the daemon takes the next request.
func TestBodyOf100MB(t *testing.T) {
	n, d := daemon.Start(t)
	client := n.Client()
	for name, length := range map[string]int64{"length told": hundredMB, "length not told": -1} {
		t.Run(name, func(t *testing.T) {
			body := io.MultiReader(strings.NewReader(`{"kind":"`), &endless{left: hundredMB - 9})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://windlass/imageapi/v1/attach", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var e models.Error
			if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Message == nil {
				t.Fatalf("%d: no error of the contract: %v", resp.StatusCode, err)
			}
			if resp.StatusCode != http.StatusRequestEntityTooLarge || e.Code != http.StatusRequestEntityTooLarge {
				t.Errorf("%d %d, want 413", resp.StatusCode, e.Code)
			}
			says(t, *e.Message, "the body is larger than 4194304 bytes")
			daemon.Untouched(t, n, d)
		})
	}
}
