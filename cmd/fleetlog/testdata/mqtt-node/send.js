// Sends telemetry with npm's mqtt package in MQTT 5 mode:
// node send.js DEVICE_ID KEY CA_FILE PORT JSON…
// Each line it prints is JSON: what the gateway granted, answered or refused.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const mqtt = require('mqtt');

const [deviceId, key, caFile, port, ...payloads] = process.argv.slice(2);
const topic = `devices/${deviceId}/messages/events/`;

function sasToken() {
  const resource = encodeURIComponent(`localhost/devices/${deviceId}`);
  const expiry = Math.floor(Date.now() / 1000) + 3600;
  const signature = crypto.createHmac('sha256', Buffer.from(key, 'base64')).update(`${resource}\n${expiry}`).digest('base64');
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}`;
}

function print(event, fields) {
  console.log(JSON.stringify({ event, ...fields }));
}

const client = mqtt.connect({
  protocol: 'mqtts',
  host: 'localhost',
  port: Number(port),
  ca: fs.readFileSync(caFile),
  protocolVersion: 5,
  clientId: deviceId,
  username: `localhost/${deviceId}/?api-version=2021-04-12`,
  password: sasToken(),
  reconnectPeriod: 0,
  keepalive: 3000,
  autoAssignTopicAlias: true,
  properties: { sessionExpiryInterval: 7 * 86400, receiveMaximum: 10, maximumPacketSize: 65536 },
});

client.on('error', (err) => {
  print('error', { code: err.code, message: err.message });
  process.exit(1);
});

client.on('connect', async (connack) => {
  print('connected', connack.properties);
  for (const payload of payloads) {
    await client.publishAsync(topic, payload, {
      qos: 1,
      properties: { contentType: 'application/json', correlationData: Buffer.from('c-1'), userProperties: { room: 'lobby 1', '$.sub': 'thermostat1' } },
    });
    print('acknowledged', { payload });
  }
  await client.publishAsync('devices/another/messages/events/', '{}', { qos: 1 }).catch((err) => print('refused', { code: err.code }));
  await client.publishAsync(topic, '{"after":true}', { qos: 1 });
  print('acknowledged', { payload: '{"after":true}' });
  await client.endAsync();
  process.exit(0);
});
