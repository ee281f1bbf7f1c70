package chain

import (
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// containerState is what a container has beside its spec. It is kept in the record.
type containerState struct {
	State  models.ContainerState `json:"state"`
	Status container.Status      `json:"status"`
	// KillAt is when a container that is stopping is killed.
	KillAt time.Time `json:"kill_at,omitzero"`
}

// runs reports whether there are processes of it.
func (s *containerState) runs() bool {
	return s.State == models.ContainerStateRunning || s.State == models.ContainerStatePaused || s.State == models.ContainerStateStopping
}

// ended reports whether it ran and does not any more.
func (s *containerState) ended() bool {
	return s.State == models.ContainerStateExited || s.State == models.ContainerStateDead
}

// follow takes over what the runtime says. A container that was asked to stop stays stopping until it has ended.
func (s *containerState) follow(now container.Status) {
	if now.State == container.Absent && !s.runs() { // how it ended is known better than by who has forgotten it
		return
	}
	s.Status = now
	switch now.State {
	case container.Running:
		if s.State != models.ContainerStateStopping {
			s.State = models.ContainerStateRunning
		}
	case container.Paused:
		if s.State != models.ContainerStateStopping {
			s.State = models.ContainerStatePaused
		}
	case container.Exited:
		s.State, s.KillAt = models.ContainerStateExited, time.Time{}
		if now.Error != "" {
			s.State = models.ContainerStateDead
		}
	case container.Absent:
		s.State, s.KillAt = models.ContainerStateDead, time.Time{}
		s.Status.Error = "its processes are gone and nobody saw them end"
	}
}

// view fills in the read-only fields.
func (s *containerState) view(v *models.Container) {
	st := s.Status
	v.Started, v.Finished, v.ExitSignal = wireTime(st.Started), wireTime(st.Finished), st.ExitSignal
	ready, oom := st.Ready && s.runs(), st.OOMKilled
	v.Ready, v.OomKilled = &ready, &oom
	if s.runs() {
		v.Pid = int64(st.PID)
	}
	if s.State == models.ContainerStateExited {
		code := int64(st.ExitCode)
		v.ExitCode = &code
	}
	if v.Error == "" {
		v.Error = st.Error
	}
}

// grace is how long a container gets between being asked to stop and being killed.
func (c *Chain) grace(o *object, asked *time.Duration) time.Duration {
	switch {
	case asked != nil:
		return *asked
	case o.container.StopTimeout != nil:
		return time.Duration(*o.container.StopTimeout) * time.Second
	case o.container.Systemd:
		return c.cfg.SystemdStopTimeout
	}
	return c.cfg.StopTimeout
}
