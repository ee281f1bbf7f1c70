package contract

import (
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func BenchmarkNestedContainer(b *testing.B) {
	op := load(b).Operation("create_container")
	body := []byte(`{"name":"n","command":"/sbin/init","systemd":true,"state":"running","mount":` + overlay(`"lower":[`+disk+`]`) + `}`)
	for b.Loop() {
		if err := op.Body(body, &models.Container{}); err != nil {
			b.Fatal(err)
		}
	}
}
