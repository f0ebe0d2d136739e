// Sends telemetry with Azure's device SDK: node send.js CONNECTION_STRING CA_FILE PORT JSON…
// The SDK always dials port 8883 of the host; the test's gateway has another one,
// so the TLS layer is told where to go and nothing else is changed.
'use strict';
const fs = require('fs');
const tls = require('tls');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

const [connectionString, caFile, port, ...payloads] = process.argv.slice(2);
const dial = tls.connect;
tls.connect = (options, ...rest) => dial({ ...options, port: Number(port) }, ...rest);

async function main() {
  const client = Client.fromConnectionString(connectionString, Mqtt);
  await client.setOptions({ ca: fs.readFileSync(caFile, 'utf8') });
  await client.open();
  for (const payload of payloads) {
    const message = new Message(payload);
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.properties.add('room', 'lobby 1');
    await client.sendEvent(message);
    console.log('acknowledged', payload);
  }
  await client.close();
}

main().then(() => process.exit(0), (err) => { console.error(err.name, err.message); process.exit(1); });
