package inject

// The names of what is added to a pod.
const (
	// Label is what a pod asks for a sidecar by, with the value "true". "false" is as
	// none; other values are refused.
	Label = "locksidecar.dev/inject"
	// Prefix is that of all annotations.
	Prefix = "locksidecar.dev/"
	// Container is the sidecar.
	Container = "locksidecar"
	// Binary is the daemon in the image.
	Binary = "/locksidecar"

	// SocketDir is where the socket's volume is mounted.
	SocketDir = "/run/locksidecar"
	// SocketPath is the socket.
	SocketPath = SocketDir + "/api.sock"
	// SocketBytes is the size of that volume. It is of memory, and what else the sidecar
	// writes is there, too.
	SocketBytes = 16 << 20
	// EndpointVariable is how applications find the socket.
	EndpointVariable = "LOCKSIDECAR_ENDPOINT"
	// Endpoint is its value.
	Endpoint = "unix://" + SocketPath

	// ConfigDir has the daemon's configuration, ConfigKey: of a ConfigMap its key.
	ConfigDir = "/etc/locksidecar/config"
	ConfigKey = "locksidecar.yaml"
	// SecretsDir has the directories of the secrets.
	SecretsDir = "/etc/locksidecar/secrets" //nolint:gosec // G101: a directory

	// MetricsPortName is the container port of /metrics.
	MetricsPortName = "ls-metrics"

	socketVolume = "locksidecar-socket"
	configVolume = "locksidecar-config"
	secretVolume = "locksidecar-secret-"

	variablePrefix = "LOCKSIDECAR_"
	mirror         = "kubernetes.io/config.mirror"
	source         = "kubernetes.io/config.source"
	systemLabel    = "kubernetes.io/os"
)

// The annotations that the injector writes.
const (
	// StatusAnnotation says what was done, as JSON.
	StatusAnnotation = Prefix + "status"
	// ConfigurationAnnotation has the daemon's configuration, which a volume
	// shows to the sidecar.
	ConfigurationAnnotation = Prefix + "configuration"
)
