package server

import (
	"net/http"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func (s *Server) listAttachments(w http.ResponseWriter, c *call) error {
	objects, err := s.chain.Attachments(c.params.Int64("id"), c.params.Text("kind"))
	return list(s, w, objects, err)
}

func (s *Server) attach(w http.ResponseWriter, c *call) error {
	spec := &models.Attach{}
	if err := c.decode(spec); err != nil {
		return err
	}
	object, err := s.chain.Attach(c.Context(), spec)
	return one(s, w, http.StatusCreated, object, err)
}

func (s *Server) detach(w http.ResponseWriter, c *call) error {
	object, err := s.chain.Detach(c.Context(), *c.params.Int64("id"), c.params.Bool("force"))
	return one(s, w, http.StatusOK, object, err)
}

func (s *Server) listMounts(w http.ResponseWriter, c *call) error {
	objects, err := s.chain.Mounts(c.params.Int64("id"), c.params.Text("kind"))
	return list(s, w, objects, err)
}

func (s *Server) mount(w http.ResponseWriter, c *call) error {
	spec := &models.Mount{}
	if err := c.decode(spec); err != nil {
		return err
	}
	object, err := s.chain.Mount(c.Context(), spec)
	return one(s, w, http.StatusCreated, object, err)
}

func (s *Server) unmount(w http.ResponseWriter, c *call) error {
	object, err := s.chain.Unmount(c.Context(), *c.params.Int64("id"), c.params.Bool("force"))
	return one(s, w, http.StatusOK, object, err)
}
