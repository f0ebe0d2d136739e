package device

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fleetlog/fleetlog/internal/sas"
	"github.com/fleetlog/fleetlog/internal/seal"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/google/renameio/v2"
)

// MasterKey is the secret all device keys are derived from. It lives in a file
// of its own and never on the log.
type MasterKey struct {
	secret []byte
	sealer *seal.Sealer
}

func newMasterKey(secret []byte) (*MasterKey, error) {
	sealer, err := seal.New(secret)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return &MasterKey{secret: secret, sealer: sealer}, nil
}

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
	return newMasterKey(secret)
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
	return newMasterKey(secret)
}

// Keys are a device's symmetric keys; either one signs its SAS tokens.
type Keys struct{ Primary, Secondary []byte }

// DeviceKeys derives the keys that a device has by a group's keys, as DPS does
// for a symmetric-key enrollment group (FEATURES.md AUTH-30).
func (k Keys) DeviceKeys(deviceID string) Keys {
	return Keys{Primary: sas.DeviceKey(k.Primary, deviceID), Secondary: sas.DeviceKey(k.Secondary, deviceID)}
}

// DeviceKeys are a device's keys by the tenant's default enrollment group, while
// that has no keys of its own.
func (m *MasterKey) DeviceKeys(tenant, deviceID string) Keys {
	return m.GroupKeys(tenant).DeviceKeys(deviceID)
}

// GroupKeys are the keys of the tenant's default enrollment group, derived from
// the master key.
func (m *MasterKey) GroupKeys(tenant string) Keys {
	return Keys{Primary: m.groupKey(tenant, "primary"), Secondary: m.groupKey(tenant, "secondary")}
}

// SealKeys seals keys for a place on the log, `{tenant}/{kind}/{id}`.
func (m *MasterKey) SealKeys(place string, k Keys) *eventsv1.SealedKeys {
	return &eventsv1.SealedKeys{
		Primary:   m.sealer.Seal(place+"/primary", k.Primary),
		Secondary: m.sealer.Seal(place+"/secondary", k.Secondary),
	}
}

// ModuleKeys derives a module's keys as if `device/module` were the registration
// id; no device id has a slash.
func (m *MasterKey) ModuleKeys(tenant, deviceID, module string) Keys {
	return m.DeviceKeys(tenant, deviceID+"/"+module)
}

// OpenKeys opens what SealKeys made for the same place.
func (m *MasterKey) OpenKeys(place string, s *eventsv1.SealedKeys) (k Keys, err error) {
	if k.Primary, err = m.sealer.Open(place+"/primary", s.GetPrimary()); err != nil {
		return Keys{}, fmt.Errorf("primary key of %s: %w", place, err)
	}
	if k.Secondary, err = m.sealer.Open(place+"/secondary", s.GetSecondary()); err != nil {
		return Keys{}, fmt.Errorf("secondary key of %s: %w", place, err)
	}
	return k, nil
}

// AttestationPlace is where a device's own sealed keys stand.
func AttestationPlace(tenant, deviceID string) string {
	return tenant + "/devices/" + deviceID + "/attestation"
}

// generatedKeyBytes is the size of keys made here (AUTH-33).
const generatedKeyBytes = 64

// GenerateKeys makes new random keys.
func GenerateKeys() Keys {
	k := Keys{Primary: make([]byte, generatedKeyBytes), Secondary: make([]byte, generatedKeyBytes)}
	_, _ = rand.Read(k.Primary) // never fails (crypto/rand)
	_, _ = rand.Read(k.Secondary)
	return k
}

// ParseKey reads a symmetric key that a person supplied: base64 of 16 to 64
// bytes (AUTH-33). The error does not hold it.
func ParseKey(encoded string) ([]byte, error) {
	const shortest, longest = 16, 64
	if len(encoded) > base64.StdEncoding.EncodedLen(longest) {
		return nil, errKey
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(key) < shortest || len(key) > longest {
		return nil, errKey
	}
	return key, nil
}

var errKey = errors.New("a symmetric key is the base64 of 16 to 64 bytes")

// groupKey is the 64-byte key of the tenant's default enrollment group, which
// IoT Central calls SAS-IoT-Devices.
func (m *MasterKey) groupKey(tenant, slot string) []byte {
	mac := hmac.New(sha512.New, m.secret)
	fmt.Fprintf(mac, "tenant/%s/enrollmentGroups/"+DefaultGroup+"/%s", tenant, slot)
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
