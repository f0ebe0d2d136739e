package device

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/google/renameio/v2"
)

// MasterKey is the secret all device keys are derived from. It lives in a file
// of its own and never on the log.
type MasterKey struct{ secret []byte }

const masterKeyBytes = 64

// OpenMasterKey reads the master key from a file, and makes one the first time.
// The file is readable by its owner only; an existing file others can read is
// refused.
func OpenMasterKey(path string) (*MasterKey, error) {
	secret, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return createMasterKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("master key %s can be read by others: run `chmod 600 %s`", path, path)
	}
	if len(secret) != masterKeyBytes {
		return nil, fmt.Errorf("master key %s has %d bytes instead of %d: restore it from your backup, every device's keys are derived from it", path, len(secret), masterKeyBytes)
	}
	return &MasterKey{secret: secret}, nil
}

func createMasterKey(path string) (*MasterKey, error) {
	secret := make([]byte, masterKeyBytes)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	if err := renameio.WriteFile(path, secret, 0o600); err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	return &MasterKey{secret: secret}, nil
}

// Keys are a device's symmetric keys; either one signs its SAS tokens.
type Keys struct{ Primary, Secondary []byte }

// DeviceKeys derives a device's keys: the tenant's group key from the master
// key, the device's key from the group key as DPS does for a symmetric-key
// enrollment group (FEATURES.md AUTH-30).
func (m *MasterKey) DeviceKeys(tenant, deviceID string) Keys {
	return Keys{
		Primary:   sas.DeviceKey(m.groupKey(tenant, "primary"), deviceID),
		Secondary: sas.DeviceKey(m.groupKey(tenant, "secondary"), deviceID),
	}
}

// ModuleKeys derives a module's keys as if `device/module` were the registration
// id; no device id has a slash.
func (m *MasterKey) ModuleKeys(tenant, deviceID, module string) Keys {
	return m.DeviceKeys(tenant, deviceID+"/"+module)
}

// groupKey is the 64-byte key of the tenant's default enrollment group, which
// IoT Central calls SAS-IoT-Devices.
func (m *MasterKey) groupKey(tenant, slot string) []byte {
	mac := hmac.New(sha512.New, m.secret)
	fmt.Fprintf(mac, "tenant/%s/enrollmentGroups/SAS-IoT-Devices/%s", tenant, slot)
	return mac.Sum(nil)
}

// IDScope names the tenant to the device provisioning service. It is no secret.
func (m *MasterKey) IDScope(tenant string) string {
	mac := hmac.New(sha512.New, m.secret)
	fmt.Fprintf(mac, "tenant/%s/idScope", tenant)
	return fmt.Sprintf("0ne%08X", mac.Sum(nil)[:4])
}

// Secret derives a key for a purpose of the platform's own, such as signing what
// it hands out to get it back. Each purpose has another one.
func (m *MasterKey) Secret(purpose string) []byte {
	mac := hmac.New(sha512.New, m.secret)
	fmt.Fprintf(mac, "purpose/%s", purpose)
	return mac.Sum(nil)
}
