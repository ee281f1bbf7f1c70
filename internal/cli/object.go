package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// object is a *models.Attach, *models.Mount or *models.Container.
type object any

func kindOf(o object) string {
	switch o.(type) {
	case *models.Attach:
		return "attach"
	case *models.Mount:
		return "mount"
	}
	return "container"
}

func idOf(o object) models.ID {
	switch o := o.(type) {
	case *models.Attach:
		return o.ID
	case *models.Mount:
		return o.ID
	case *models.Container:
		return o.ID
	}
	return 0
}

func stateOf(o object) string {
	switch o := o.(type) {
	case *models.Attach:
		return o.State
	case *models.Mount:
		return o.State
	case *models.Container:
		return string(o.State)
	}
	return ""
}

func timelineOf(o object) []*models.Step {
	switch o := o.(type) {
	case *models.Attach:
		return o.Timeline
	case *models.Mount:
		return o.Timeline
	case *models.Container:
		return o.Timeline
	}
	return nil
}

// link is an object below another, and what it is there for.
type link struct {
	role string // such as `upper`; mostly empty
	to   object
}

// below gives what an object stands on, in the order of its definition.
func below(o object) (links []link) {
	add := func(role string, m *models.Mount) {
		if m != nil {
			links = append(links, link{role, m})
		}
	}
	switch o := o.(type) {
	case *models.Container:
		add("", o.Mount)
	case *models.Mount:
		switch {
		case o.Attach != nil && o.Attach.Attach != nil:
			links = append(links, link{"", o.Attach.Attach})
		case o.Bind != nil:
			add("", o.Bind.Mount)
		case o.Overlay != nil:
			for i, m := range o.Overlay.Lower {
				role := ""
				if len(o.Overlay.Lower) > 1 {
					role = fmt.Sprintf("lower %d: ", i+1)
				}
				add(role, m)
			}
			if o.Overlay.Upper != nil {
				add("upper: ", o.Overlay.Upper.Mount)
			}
		}
	case *models.Attach:
		if o.Loopback != nil {
			add("", o.Loopback.Mount)
		}
	}
	return links
}

// sourceOf says where the content of an object comes from: the image, the device, the directory.
func sourceOf(o object) string {
	switch o := o.(type) {
	case *models.Container:
		if o.Mount != nil {
			return sourceOf(o.Mount)
		}
	case *models.Mount:
		switch {
		case o.Bind != nil:
			return deref(o.Bind.Path)
		case o.URI != nil:
			return deref(o.URI.URI)
		case o.Chunkfs != nil:
			return chunkfsSource(o.Chunkfs)
		case o.Nfs != nil:
			return deref(o.Nfs.Host) + ":" + deref(o.Nfs.Path)
		case o.Tmpfs != nil:
			return "tmpfs"
		}
	case *models.Attach:
		switch {
		case o.Loopback != nil:
			return deref(o.Loopback.Path)
		case o.Local != nil:
			return deref(o.Local.Path)
		case o.Rbd != nil:
			return rbdSource(o.Rbd)
		case o.Iscsi != nil:
			return fmt.Sprintf("%s lun %d", deref(o.Iscsi.Target), deref(o.Iscsi.Lun))
		}
	}
	if links := below(o); len(links) > 0 {
		return sourceOf(links[0].to)
	}
	return ""
}

// nameOf is what a person calls it: a container's name, else the id.
func nameOf(o object) string {
	if c, ok := o.(*models.Container); ok && c.Name != "" {
		return string(c.Name)
	}
	return strconv.FormatInt(int64(idOf(o)), 10)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// ref is the opposite of deref, but the zero value is nil: not said.
func ref[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// container finds one by id or name. A number is an id first.
func (c *api) container(ctx context.Context, target string) (*models.Container, error) {
	if id, err := strconv.ParseInt(target, 10, 64); err == nil {
		found, err := c.containers(ctx, &id, nil, nil)
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
		if err != nil && codeOf(err) != exitNotFound {
			return nil, err
		}
	}
	found, err := c.containers(ctx, nil, &target, nil)
	if err != nil && codeOf(err) != exitNotFound {
		return nil, err
	}
	if len(found) == 0 {
		return nil, notFoundError(fmt.Sprintf("no container has the id or name %q: `windlass ps` lists them", target))
	}
	return found[0], nil
}

// find finds an object of any kind by id, or a container by name.
func (c *api) find(ctx context.Context, target string) (object, error) {
	box, err := c.container(ctx, target)
	if err == nil {
		return box, nil
	}
	id, notNumber := strconv.ParseInt(target, 10, 64)
	if notNumber != nil || codeOf(err) != exitNotFound {
		return nil, err
	}
	mounts, err := c.mounts(ctx, &id, nil)
	if err == nil && len(mounts) > 0 {
		return mounts[0], nil
	}
	if err != nil && codeOf(err) != exitNotFound {
		return nil, err
	}
	attachments, err := c.attachments(ctx, &id, nil)
	if err == nil && len(attachments) > 0 {
		return attachments[0], nil
	}
	if err != nil && codeOf(err) != exitNotFound {
		return nil, err
	}
	return nil, notFoundError(fmt.Sprintf("no container, mount or attachment has the id or name %q: `windlass ps all` lists them", target))
}

// needTargets refuses a command line without one.
func needTargets(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("which? Give an ID or NAME")
	}
	return nil
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

// completeContainers offers names, or ids of those without one.
func (a *app) completeContainers(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	daemon, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, err := daemon.containers(ctx, nil, nil, nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, c := range found {
		if name := nameOf(c); strings.HasPrefix(name, prefix) && !contains(args, name) {
			words = append(words, name+"\t"+string(c.State))
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeOneContainer is for commands whose other words are not containers.
func (a *app) completeOneContainer(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeContainers(cmd, args, prefix)
}
