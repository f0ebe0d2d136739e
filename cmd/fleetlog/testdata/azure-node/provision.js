// Provisions a device with Azure's SDK, connects to the hub it is assigned to and
// sends telemetry: node provision.js CONFIG, a JSON object of host, port, idScope,
// registrationId, transport (mqtt or http), modelId, and either key (base64) or
// cert and key (PEM). It prints the registration as one line of JSON, and then
// `acknowledged`. NODE_EXTRA_CA_CERTS names the CA of the server.
// The SDK always dials port 8883 (or 443) of the host; the test's server has
// other ones, so the TLS layer is told where to go and nothing else is changed.
'use strict';
const tls = require('tls');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

const config = JSON.parse(process.argv[2]);
const dial = tls.connect;
tls.connect = (options, ...rest) => dial({ ...options, port: config.port }, ...rest);

async function main() {
  const x509 = config.cert && { cert: config.cert, key: config.key };
  const security = x509
    ? new X509Security(config.registrationId, x509)
    : new SymmetricKeySecurityClient(config.registrationId, config.key);
  const Transport = config.transport === 'http' ? require('azure-iot-provisioning-device-http').Http : require('azure-iot-provisioning-device-mqtt').Mqtt;
  const provisioning = ProvisioningDeviceClient.create(config.host, config.idScope, new Transport(), security);
  if (config.modelId) provisioning.setProvisioningPayload({ modelId: config.modelId });
  const registration = await provisioning.register();
  console.log(JSON.stringify(registration));
  if (config.transport === 'http') return;

  const secret = x509 ? 'x509=true' : `SharedAccessKey=${config.key}`;
  const client = Client.fromConnectionString(`HostName=${registration.assignedHub};DeviceId=${registration.deviceId};${secret}`, Mqtt);
  if (x509) await client.setOptions(x509);
  await client.open();
  const message = new Message(JSON.stringify({ temperature: 20.5 }));
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  await client.sendEvent(message);
  console.log('acknowledged');
  await client.close();
}

main().then(() => process.exit(0), (err) => {
  console.error(err.name, err.message, JSON.stringify(err.result || {}));
  process.exit(1);
});
