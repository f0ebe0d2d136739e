package main

import "time"

// The flags of the commands that run parts of the platform, by what they are
// about. Scripts rely on their names and defaults.

// nodeFlags are what every node has.
type nodeFlags struct {
	DataDir   string `help:"Where this node keeps what is its own." default:"./fleetlog-data" type:"path" placeholder:"DIR"`
	MasterKey string `help:"File of the secret that device keys are derived from, the same for all nodes; <data-dir>/master.key when empty, made if it is missing." type:"path" placeholder:"FILE"`

	Kafka       []string      `help:"Kafka brokers; 'run' has its own when there are none here." placeholder:"HOST:PORT,…"`
	TopicPrefix string        `help:"Prefix of topics and consumer groups on the brokers." default:"fleetlog."`
	Partitions  int32         `help:"Partitions of topics that are made anew; 0 is one a core (2 to 8) in the embedded broker and 12 in brokers of yours." default:"0"`
	Retention   time.Duration `help:"How long the log keeps telemetry." default:"168h"`

	TLSCert string   `name:"tls-cert" help:"Server certificate chain (PEM) instead of one from the local CA; a new one is taken without a restart." type:"existingfile" placeholder:"FILE"`
	TLSKey  string   `name:"tls-key" help:"Key of --tls-cert (PEM)." type:"existingfile" placeholder:"FILE"`
	TLSName []string `name:"tls-name" help:"Further host names or addresses for the local CA's server certificate." placeholder:"NAME,…"`

	DebugAddr string `help:"Serve Go's profiles here (/debug/pprof); loopback only, off when empty." placeholder:"ADDR"`
}

// embeddedFlags are of the engines inside the process.
type embeddedFlags struct {
	KafkaAddr      string `help:"Where the embedded Kafka broker listens; loopback only." default:"127.0.0.1:9092" placeholder:"ADDR"`
	LogSync        bool   `help:"Have every message on disk (fsync) before it is acknowledged; embedded broker only." default:"true" negatable:""`
	ClickHouseAddr string `name:"clickhouse-addr" help:"Where the embedded ClickHouse answers HTTP; loopback only." default:"127.0.0.1:8123" placeholder:"ADDR"`
}

// clickHouseFlags are of roles that write to or read from ClickHouse.
type clickHouseFlags struct {
	ClickHouse string `name:"clickhouse" help:"ClickHouse, as http(s)://user:password@host:port; 'run' has its own when there is none here." placeholder:"URL"`
	Database   string `help:"Database in ClickHouse." default:"fleetlog"`

	ClickHouseCluster string   `name:"clickhouse-cluster" help:"Cluster that the database is on, as ClickHouse's configuration names it: tables are made replicated and distributed. Empty for one server; not to be changed later." placeholder:"NAME"`
	RetentionOf       []string `help:"How long ClickHouse keeps a table's rows, or a tenant's: telemetry=90d, acme/telemetry=7d (12h, 90d, 3y or forever). Without it telemetry, alerts, jobs and changes of the catalog stay a year, dead letters 30 days, all else for ever." placeholder:"[TENANT/]TABLE=SPAN,…"`
}

// deviceFlags are of the device gateway.
type deviceFlags struct {
	MQTTAddr       string  `name:"mqtt-addr" help:"MQTT without TLS; loopback only, empty for none." default:"127.0.0.1:1883" placeholder:"ADDR"`
	MQTTSAddr      string  `name:"mqtts-addr" help:"MQTT over TLS." default:"127.0.0.1:8883" placeholder:"ADDR"`
	HTTPSAddr      string  `name:"https-addr" help:"HTTPS and MQTT over WebSocket for devices; Azure's SDKs assume port 443." default:"127.0.0.1:8443" placeholder:"ADDR"`
	HubName        string  `help:"Host name that devices are told to connect to once they are provisioned; the one they used when empty." placeholder:"NAME"`
	MaxConnections int64   `help:"Device connections at one time." default:"100000"`
	Inflight       int64   `help:"Messages of one device that may wait for the log." default:"256"`
	DeviceRate     float64 `help:"Messages/s of one device connection, 5 seconds' worth at once; 0 for no bound." default:"0"`
	TenantRate     float64 `help:"Messages/s of all of a tenant's devices on this node; 0 for no bound." default:"0"`
	ConnectRate    float64 `help:"Device connections/s this node takes; more wait. 0 for no bound." default:"5000"`
	OIDCConfig     string  `name:"oidc-config" help:"YAML file with identity providers (OpenID Connect) whose tokens are taken; docs/sign-in.md shows how." type:"existingfile" placeholder:"FILE"`
	MaxFileBytes   int64   `help:"Largest file a device may upload." default:"104857600"`
	BridgeConfig   string  `help:"YAML file with MQTT brokers to take telemetry from; deploy/bridges.yaml is an example." type:"existingfile" placeholder:"FILE"`
}

// fileFlags are of the roles that keep files.
type fileFlags struct {
	Files string `help:"Where devices' uploads and the files of imports and exports go: file:///directory, s3://bucket?region=… or azblob://container; <data-dir>/files when empty. Nodes of their own with the API must share one." placeholder:"URL"`
}

// simulationFlags are of simulated devices.
type simulationFlags struct {
	SimulationGateway string        `help:"Where this node's simulated devices connect, as mqtts://host:8883; when empty 'run' has them connect to itself and 'process' has none." placeholder:"URL"`
	SimulationCA      string        `name:"simulation-ca" help:"CA (PEM) that they trust at --simulation-gateway; the system's when empty." type:"existingfile" placeholder:"FILE"`
	SimulatedInterval time.Duration `help:"Time between two messages of a simulated device." default:"10s"`
}

// apiFlags are of the API.
type apiFlags struct {
	APIAddr  string  `help:"REST API, documentation and metrics." default:"127.0.0.1:8080" placeholder:"ADDR"`
	GRPCAddr string  `name:"grpc-addr" help:"gRPC API." default:"127.0.0.1:9090" placeholder:"ADDR"`
	APIRate  float64 `name:"api-rate" help:"Calls/s of one caller, 2 seconds' worth at once; 0 for no bound." default:"5000"`
}

// operationsFlags are of a node without the API.
type operationsFlags struct {
	OpsAddr string `help:"Health (/healthz, /readyz) and metrics (/metrics) of this node." default:"127.0.0.1:8081" placeholder:"ADDR"`
}
