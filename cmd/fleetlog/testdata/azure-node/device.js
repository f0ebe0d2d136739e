// A device with Azure's own SDKs for Node, as one in the field, for the end-to-end
// test: node device.js CONFIG_JSON. It takes the same configuration, orders and
// says the same things as ../azure-python/device.py.
//
// The SDKs dial 8883 and 443 of the host; the test's ports are others, so the TLS
// layer is told where to go and nothing else is changed.
'use strict';
const fs = require('fs');
const tls = require('tls');
const readline = require('readline');
const { Client, Message } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');

const config = JSON.parse(process.argv[2]);
const ca = fs.readFileSync(config.ca, 'utf8');
const dial = tls.connect;
tls.connect = (options, ...rest) =>
  dial({ ...options, ca, port: config.websockets ? config.httpsPort : config.mqttsPort }, ...rest);

const say = (what) => console.log(JSON.stringify(what));
const certificate = () => ({ cert: fs.readFileSync(config.cert, 'utf8'), key: fs.readFileSync(config.certKey, 'utf8') });

async function provision() {
  const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
  const transports = require('azure-iot-provisioning-device-mqtt');
  const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
  const { X509Security } = require('azure-iot-security-x509');
  const security = config.cert
    ? new X509Security(config.device, certificate())
    : new SymmetricKeySecurityClient(config.device, config.key);
  const transport = new (config.websockets ? transports.MqttWs : transports.Mqtt)();
  const client = ProvisioningDeviceClient.create(config.host, config.idScope, transport, security);
  if (config.model) client.setProvisioningPayload({ modelId: config.model });
  const result = await client.register();
  say({ event: 'provisioned', status: result.status, hub: result.assignedHub, device: result.deviceId });
  return result.deviceId;
}

async function main() {
  const device = config.idScope ? await provision() : config.device;
  const transport = config.websockets ? MqttWs : Mqtt;
  const options = { keepAlive: 10, ...(config.model ? { modelId: config.model } : {}) };
  let client;
  if (config.cert) {
    client = Client.fromConnectionString(`HostName=${config.host};DeviceId=${device};x509=true`, transport);
    await client.setOptions({ ...certificate(), ...options });
  } else {
    client = Client.fromConnectionString(`HostName=${config.host};DeviceId=${device};SharedAccessKey=${config.key}`, transport);
    await client.setOptions(options);
  }
  client.on('connect', () => say({ event: 'connected' }));
  client.on('disconnect', () => say({ event: 'disconnected' }));
  client.on('error', (error) => say({ event: 'error', message: error.message }));
  await client.open();
  for (const name of ['succeed', 'fail', 'slow']) {
    client.onDeviceMethod(name, async (request, response) => {
      say({ event: 'method', name, payload: request.payload });
      if (name === 'slow') return; // no answer at all
      await response.send(name === 'fail' ? 500 : 200, { did: name });
    });
  }
  client.on('message', async (m) => {
    const properties = Object.fromEntries(m.properties.propertyList.map(({ key, value }) => [key, value]));
    say({ event: 'message', data: m.data.toString(), id: m.messageId, properties });
    await client.complete(m);
  });
  const twin = await client.getTwin();
  let first = true; // the SDK gives what is there as the first change
  twin.on('properties.desired', (patch) => {
    if (!first) say({ event: 'desired', patch });
    first = false;
  });
  say({ event: 'ready' });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    if (order.do === 'telemetry') {
      const m = new Message(JSON.stringify(order.body));
      m.contentType = 'application/json';
      m.contentEncoding = 'utf-8';
      for (const [key, value] of Object.entries(order.properties || {})) m.properties.add(key, value);
      await client.sendEvent(m);
      say({ event: 'sent' });
    } else if (order.do === 'twin') {
      await twin.get();
      say({ event: 'twin', twin: { desired: twin.properties.desired, reported: twin.properties.reported } });
    } else if (order.do === 'report') {
      await new Promise((done, failed) => twin.properties.reported.update(order.patch, (error) => (error ? failed(error) : done())));
      say({ event: 'reported' });
    } else if (order.do === 'quit') {
      break;
    }
  }
  await client.close();
  say({ event: 'closed' });
  process.exit(0);
}

main().catch((error) => {
  say({ event: 'failed', message: String(error && error.message) });
  process.exit(1);
});
