// Uses Azure's device SDKs on the HTTPS door: node door.js CONNECTION_STRING CA_FILE PORT ACTION…
// The SDKs always dial port 443 of the host; the test's door has another one, so
// the TLS layer is told where to go and nothing else is changed. The CA for Azure's
// storage client comes by NODE_EXTRA_CA_CERTS, because it has no setting for one.
'use strict';
const fs = require('fs');
const tls = require('tls');
const { Readable } = require('stream');
const { Client, Message } = require('azure-iot-device');
const { Http } = require('azure-iot-device-http');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');

const [connectionString, caFile, port, ...actions] = process.argv.slice(2);
const dial = tls.connect;
tls.connect = (options, ...rest) => dial({ ...options, port: Number(port) }, ...rest);

async function client(transport) {
  const c = Client.fromConnectionString(connectionString, transport);
  // Without a policy to receive, HTTP's setOptions never ends.
  await c.setOptions({ ca: fs.readFileSync(caFile, 'utf8'), http: { receivePolicy: { interval: 1 } } });
  return c;
}

function message(payload) {
  const m = new Message(payload);
  m.messageId = 'm1';
  m.contentType = 'application/json';
  m.contentEncoding = 'utf-8';
  m.properties.add('room', 'lobby 1');
  return m;
}

const does = {
  // Telemetry by HTTP, one message and a batch.
  async http() {
    const c = await client(Http);
    await c.sendEvent(message('{"by":"http"}'));
    await c.sendEventBatch([message('{"by":"batch 1"}'), message('{"by":"batch 2"}')]);
    console.log('http done');
  },
  // Telemetry by MQTT over WebSocket.
  async websocket() {
    const c = await client(MqttWs);
    await c.open();
    await c.sendEvent(message('{"by":"websocket"}'));
    await c.close();
    console.log('websocket done');
  },
  // Messages to the device: the first is completed, the second rejected, the third
  // abandoned once and completed when it comes again.
  async receive() {
    const c = await client(Http);
    await new Promise((resolve, reject) => {
      let settled = 0, abandoned = false;
      const done = (err) => { if (err) reject(err); else if (++settled === 3) resolve(); };
      c.on('error', reject);
      c.on('message', (m) => {
        const text = m.getData().toString();
        console.log('received', text, m.messageId, JSON.stringify(m.properties.propertyList));
        if (text === 'reject me') c.reject(m, done);
        else if (text === 'abandon me' && !abandoned) { abandoned = true; c.abandon(m, (err) => { if (err) reject(err); }); }
        else c.complete(m, done);
      });
    });
    console.log('receive done');
  },
  // Files, of several blocks and of a few bytes.
  async upload() {
    const c = await client(Mqtt);
    const big = Buffer.alloc(9 << 20, 'x');
    await c.uploadToBlob('big.bin', Readable.from([big]), big.length);
    await c.uploadToBlob('logs/a small one.txt', Readable.from([Buffer.from('a few bytes')]), 11);
    console.log('upload done');
  },
};

async function main() {
  for (const action of actions) await does[action]();
}

main().then(() => process.exit(0), (err) => { console.error(err.name, err.message, err.innerError || '', err.responseBody || ''); process.exit(1); });
