package chain

import "github.com/windlass-hpc/windlass/swagger/models"

// forgetAttach clears the parts of a definition that are only ever answered, in copies: a client may send what it was answered, and what
// it says of another object must not be shown of this one.
func forgetAttach(own *models.Attach) {
	if own.Rbd != nil {
		part := *own.Rbd
		part.DeviceID = 0
		own.Rbd = &part
	}
	if own.Iscsi != nil {
		part := *own.Iscsi
		part.Session = nil
		own.Iscsi = &part
	}
}

// forgetMount does the same for a mount.
func forgetMount(own *models.Mount) {
	if own.Nfs != nil {
		part := *own.Nfs
		part.Address = ""
		own.Nfs = &part
	}
	if own.Chunkfs != nil {
		part := *own.Chunkfs
		part.Status = nil
		own.Chunkfs = &part
	}
}
