// How a real agent reports a delay on this kernel: requested and installed, or refused.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { curveKeyPair } from 'zeromq'
import type { EndpointView } from '#model/views.ts'
import { probeShaping } from '#overlay/shaping/probe.ts'
import { Lab } from '../lab.ts'
import { OpenVSwitch } from '../open-vswitch.ts'
import { noFilters, type Plane } from '../stage.ts'

const READY_MS = 60_000
const DELAY_US = 20_000
const RATE = 50e6

/** The API reports the requested and the installed delay; an unsupported one is refused by its own code, without a trace. */
export async function delayAsked(t: Test, plane: Plane): Promise<void> {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const dir = join(lab.dir, 'ovs')
  const guard = noFilters === false || plane === 'bpf' ? 'auto' : 'off'
  const driver =
    plane === 'linux' || plane === 'bpf' ? { driver: plane } : { driver: 'ovs', ovs: { socket: join(dir, 'db.sock') } }
  const settings = { overlay: { guard, ...driver }, ...(noFilters === false ? {} : { zmq: await curveKeys(lab.dir) }) }
  const host = await lab.addHost({ bootstrapExpect: 1, join: [], settings })
  if (plane === 'ovs-system' || plane === 'ovs-netdev') {
    const ovs = await OpenVSwitch.start(host.namespace, dir)
    t.teardown(() => ovs.stop())
  }
  await host.startAgent()
  await host.waitReady(READY_MS)
  await host.api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/24', egress: noFilters === false })
  const [one] = await lab.containers(['one'])
  if (one === undefined) throw new Error('no container')
  const show = async (): Promise<EndpointView | undefined> =>
    ((await host.api.call('GET', `/v1/endpoints/${one.name}`)) as readonly EndpointView[])[0]
  const devices = async (): Promise<string> => (await host.exec('sh', '-c', 'ip -br link; tc qdisc show')).stdout
  const plain = { address: '10.1.0.7', egressRate: RATE }
  const asked = { ...plain, delayUs: DELAY_US }

  if (!probeShaping().support.delay) {
    const before = await devices()
    const refused = { code: 'ERR_DELAY_UNSUPPORTED', field: 'delayUs', message: /netem/ }
    await t.rejects(host.attach(one, 'red', asked), refused, 'an attach is refused')
    t.strictSame(await host.api.call('GET', '/v1/endpoints'), [], 'no endpoint')
    t.equal(await devices(), before, 'no device, no queue')
    t.notMatch((await one.exec('ip', 'link')).stdout, /eth0/, 'nothing in the container')
    t.match(await host.attach(one, 'red', plain), { address: /^10\.1\.0\.7\b/ }, 'its address is still free')
    await t.rejects(
      host.api.call('PATCH', `/v1/endpoints/${one.name}`, { delayUs: DELAY_US, egressRate: 1e6 }),
      refused
    )
    const unchanged = { egressRate: RATE, delayUs: 0 }
    t.match(await show(), { ...unchanged, installed: unchanged }, 'a refused update changes nothing')
    return
  }
  await host.attach(one, 'red', asked)
  t.match(await host.cliJson('endpoint', 'show', one.name), { delayUs: DELAY_US, installed: { delayUs: DELAY_US } })
  for (const delayUs of [DELAY_US, 5 * DELAY_US, 0]) {
    if (delayUs !== DELAY_US) await host.api.call('PATCH', `/v1/endpoints/${one.name}`, { delayUs })
    const said = { egressRate: RATE, delayUs }
    t.match(await show(), { ...said, installed: said }, `requested and installed: ${delayUs} us`)
  }
  await host.detach(one)
  t.notMatch(await devices(), /netem|tbf|v[ei][0-9a-f]{12}/, 'a detach leaves nothing')
}

/** Without nftables the agent cannot match connections on loopback to users, and requires keys. */
async function curveKeys(dir: string): Promise<Record<'secretKeyFile' | 'allowedKeysFile', string>> {
  const { publicKey, secretKey } = curveKeyPair()
  const files = { secretKeyFile: join(dir, 'zmq.secret'), allowedKeysFile: join(dir, 'zmq.allowed') }
  await writeFile(files.secretKeyFile, secretKey, { mode: 0o600 })
  await writeFile(files.allowedKeysFile, `${publicKey}\n`)
  return files
}
