package chain

import (
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/redact"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// maskAttach takes the secrets out of a view. It copies the parts that it changes.
func maskAttach(v *models.Attach) {
	if v.Rbd != nil && v.Rbd.Options != nil && v.Rbd.Options.Secret != "" {
		part, options := *v.Rbd, *v.Rbd.Options
		options.Secret = redact.Mask
		part.Options, v.Rbd = &options, &part
	}
	if v.Iscsi != nil {
		part := *v.Iscsi
		part.Chap, part.MutualChap = maskChap(part.Chap), maskChap(part.MutualChap)
		v.Iscsi = &part
	}
}

func maskChap(chap *models.IscsiChap) *models.IscsiChap {
	if chap == nil || chap.Secret == "" {
		return chap
	}
	masked := *chap
	masked.Secret = redact.Mask
	return &masked
}

// maskMount does the same for a mount.
func maskMount(v *models.Mount) {
	if v.URI != nil && v.URI.URI != nil {
		part := *v.URI
		uri := redact.URL(*part.URI)
		part.URI = &uri
		v.URI = &part
	}
	if v.Chunkfs != nil {
		v.Chunkfs = maskChunkfs(v.Chunkfs)
	}
}

// maskChunkfs copies the part without what lets one into the origins.
func maskChunkfs(part *models.MountChunkfs) *models.MountChunkfs {
	masked := *part
	masked.Origins = make([]*models.ChunkfsOrigin, 0, len(part.Origins))
	for _, from := range part.Origins {
		if from == nil || from.URL == nil {
			continue
		}
		own := *from
		url := redact.URL(*from.URL)
		own.URL = &url
		for _, secret := range []*string{&own.Password, &own.Token} {
			if *secret != "" {
				*secret = redact.Mask
			}
		}
		masked.Origins = append(masked.Origins, &own)
	}
	return &masked
}

// refuseMasked refuses a definition that was taken from an answer, with its secrets masked: what it would attach or fetch with is not
// the secret. hint names the other ways to give it.
func refuseMasked(field, value, hint string) error {
	if value != redact.Mask {
		return nil
	}
	return fault.Hintf(fault.New(fault.Invalid, "%s is %q, which stands in answers where a secret is: the daemon never tells it", field, redact.Mask),
		"give the secret itself%s", hint)
}

// checkAttachSecrets refuses masked secrets.
func checkAttachSecrets(spec *models.Attach) error {
	const others = ", or secret_file or credential in its place"
	if spec.Rbd != nil && spec.Rbd.Options != nil {
		if err := refuseMasked("rbd.options.secret", spec.Rbd.Options.Secret, others); err != nil {
			return err
		}
	}
	if spec.Iscsi == nil {
		return nil
	}
	if chap := spec.Iscsi.Chap; chap != nil {
		if err := refuseMasked("iscsi.chap.secret", chap.Secret, others); err != nil {
			return err
		}
	}
	if chap := spec.Iscsi.MutualChap; chap != nil {
		return refuseMasked("iscsi.mutual_chap.secret", chap.Secret, others)
	}
	return nil
}

// checkMountSecrets does the same for a mount, whose URLs may hold masked ones too.
func checkMountSecrets(spec *models.Mount) error {
	if spec.URI != nil && spec.URI.URI != nil {
		if err := refuseMaskedURL("uri.uri", *spec.URI.URI); err != nil {
			return err
		}
	}
	if spec.Chunkfs == nil {
		return nil
	}
	for _, from := range spec.Chunkfs.Origins {
		if from == nil || from.URL == nil {
			continue
		}
		if err := refuseMaskedURL("chunkfs.origins.url", *from.URL); err != nil {
			return err
		}
		if err := refuseMasked("chunkfs.origins.password", from.Password, ""); err != nil {
			return err
		}
		if err := refuseMasked("chunkfs.origins.token", from.Token, ""); err != nil {
			return err
		}
	}
	return nil
}

func refuseMaskedURL(field, url string) error {
	if strings.Contains(url, "://"+redact.Mask+"@") || strings.HasSuffix(url, "?"+redact.Mask) {
		return refuseMasked(field, redact.Mask, " in the URL")
	}
	return nil
}
