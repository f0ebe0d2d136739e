package kafka

const childEnv = "FLEETLOG_TEST_KAFKA_CHILD_DIR"

func runChild(string) int { return 0 }
