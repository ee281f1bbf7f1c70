package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/swagger/server/contract"
)

// class says which budget an operation takes from. Health and documentation take from none.
type class string

const (
	read   class = "read"
	change class = "change"
	lower  class = "lower" // what takes down or stops must not wait behind what is raised and hangs
	stream class = "stream"
)

// asked is the class of an operation with these parameters: what is set to run is raised.
func (cl class) asked(p contract.Params) class {
	if cl == lower && p.Text("state") == string(models.ContainerStateRunning) {
		return change
	}
	return cl
}

// call is a request that fits the contract.
type call struct {
	*http.Request
	params contract.Params
	body   []byte
	op     *contract.Operation
}

// decode reads the body into a model.
func (c *call) decode(out any) error { return c.op.Body(c.body, out) }

type handler func(w http.ResponseWriter, c *call) error

// operations is the explicit list of what the contract's operations do.
func (s *Server) operations() map[string]struct {
	class
	handler
} {
	return map[string]struct {
		class
		handler
	}{
		"list_attachments":    {read, s.listAttachments},
		"attach":              {change, s.attach},
		"delete_attach":       {lower, s.detach},
		"list_mounts":         {read, s.listMounts},
		"mount":               {change, s.mount},
		"delete_mount":        {lower, s.unmount},
		"list_containers":     {read, s.listContainers},
		"create_container":    {change, s.createContainer},
		"delete_container":    {lower, s.deleteContainer},
		"set_container_state": {lower, s.setContainerState},
		"get_container_log":   {stream, s.containerLog},
		"exec_container":      {stream, s.exec},
		"wait_container":      {stream, s.wait},
		"list_events":         {stream, s.events},
		"get_info":            {read, s.info},
	}
}

// servedRoute is one method on one path, as the test holds them against the contract.
type servedRoute struct{ method, path string }

func (s *Server) routes() (http.Handler, error) {
	r := mux.NewRouter().SkipClean(true)
	r.NotFoundHandler = s.outer("none", s.unknownPath)
	methods := map[string][]string{}
	add := func(method, path string, h http.Handler) {
		r.Methods(method).Path(path).Handler(h)
		methods[path] = append(methods[path], method)
		s.served = append(s.served, servedRoute{method, path})
	}
	known := s.operations()
	for _, op := range s.contract.Operations() {
		do, ok := known[op.ID]
		if !ok {
			return nil, fmt.Errorf("the contract's operation %s is not served", op.ID)
		}
		path := s.contract.BasePath + op.Path
		add(op.Method, path, s.outer(path, s.checked(op, do.class, do.handler)))
	}
	docs := s.contract.BasePath + "/docs"
	for path, h := range map[string]handler{
		"/swagger.json": s.spec, "/healthz": s.health, "/metrics": s.showMetrics,
		docs: s.documentation, docs + "/": s.documentation, docs + "/{file}": s.documentation,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			add(method, path, s.outer(path, h))
		}
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		r.Path(path).Handler(s.outer(path, wrongMethod(strings.Join(allowed, ", "))))
	}
	return s.recovered(r), nil
}

// checked holds a request to its operation, and runs it when it is its turn. The body is read before that: a client that sends slowly
// must not keep others from theirs.
func (s *Server) checked(op *contract.Operation, cl class, next handler) handler {
	return func(w http.ResponseWriter, c *call) error {
		var err error
		c.op = op
		if c.params, err = op.Params(c.Request, mux.Vars(c.Request)); err != nil {
			return err
		}
		if op.HasBody() {
			var done func()
			if c.body, done, err = s.readBody(w, c.Request); err != nil {
				return err
			}
			defer done()
		}
		return s.turn(c.Context(), cl.asked(c.params), func() error { return next(w, c) })
	}
}

func (s *Server) unknownPath(_ http.ResponseWriter, c *call) error {
	return fault.Hintf(fault.New(fault.NotFound, "no such path: %s", printable(c.URL.Path)), "the API is below %s, its contract at /swagger.json", s.contract.BasePath)
}

func wrongMethod(allowed string) handler {
	return func(w http.ResponseWriter, c *call) error {
		w.Header().Set("Allow", allowed)
		return &statusError{http.StatusMethodNotAllowed, fault.Invalid, "this path has no method " + printable(c.Method) + "; it has " + allowed}
	}
}
