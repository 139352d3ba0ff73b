// Agents with Open vSwitch as their data plane: what containers notice when an agent or the switch is killed, and how an
// agent without a switch fails.

import t from 'tap'
import { join } from 'node:path'
import { Lab } from '../lab/lab.ts'
import { OpenVSwitch } from '../lab/open-vswitch.ts'
import { TEST_TIMEOUT_MS, waitFor, waitForState } from '../lab/wait.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun() || (await OpenVSwitch.cannotRun())
const CLIENT = join(import.meta.dirname, '../zmq/client.py')
const PING = { count: 3, waitMs: 1_000 } as const

t.test('agents mesh containers with Open vSwitch', { skip, timeout: TEST_TIMEOUT_MS }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const dirOf = (n: number): string => join(lab.dir, `ovs${n}`)
  const settings = (n: number): Readonly<Record<string, unknown>> => ({
    overlay: { driver: 'ovs', ovs: { socket: join(dirOf(n), 'db.sock'), datapath: 'netdev' } }
  })
  const h1 = await lab.addHost({ bootstrapExpect: 1, join: [], settings: settings(1) })
  const h2 = await lab.addHost({ role: 'client', join: ['192.0.2.1'], settings: settings(2) })

  await t.test('without Open vSwitch the agent does not start and reports why', async t => {
    await h1.startAgent()
    await waitFor('the agent ends', () => h1.agentIsGone)
    t.match(h1.logTail(), /ERR_UNSUPPORTED/)
    t.match(h1.logTail(), /overlay\.driver: this host cannot run ovs/)
  })

  const switches: OpenVSwitch[] = []
  t.teardown(() => Promise.all(switches.map(ovs => ovs.stop())))
  for (const [i, host] of [h1, h2].entries()) {
    const ovs = await OpenVSwitch.start(host.namespace, dirOf(i + 1))
    switches.push(ovs)
    await ovs.takeUnderlay('eth0', `${host.address}/24`)
  }
  const [ovs1] = switches
  if (ovs1 === undefined) throw new Error('no switch')
  await Promise.all([h1.startAgent(), h2.startAgent()])
  await Promise.all([h1.waitReady(), h2.waitReady()])
  await h1.cliJson('network', 'create', 'red', '--subnet', '10.1.0.0/24')
  await h1.cliJson('network', 'create', 'blue', '--subnet', '10.1.0.0/24')
  const [r1, r2, b1] = await lab.containers(['r1', 'r2', 'b1'])
  if (r1 === undefined || r2 === undefined || b1 === undefined) throw new Error('no containers')
  await h1.attach(r1, 'red')
  const { address } = await h2.attach(r2, 'red')
  await h1.attach(b1, 'blue')
  const to = address.split('/')[0] ?? ''
  const reaches = async (): Promise<boolean> => (await r1.ping(to, { count: 1, waitMs: 300 })).received === 1
  // The userspace datapath may lose packets while a port comes or goes (docs/openvswitch.md).
  const losesNothingAgain = (): Promise<boolean> =>
    waitFor('the other container is reached as before', async () => (await r1.ping(to, PING)).received === 3)

  await t.test('one network spans hosts, another is isolated', async t => {
    await waitFor('the tunnel carries traffic', reaches)
    await losesNothingAgain()
    t.equal((await b1.ping(to, { count: 2, waitMs: 300 })).received, 0)
    await waitForState('no drift', () => h1.status(), { overlay: { driver: 'ovs', drift: 0, degraded: [] } })
  })

  await t.test('a platform gets the port number that it requests', async t => {
    const [ported] = await lab.containers(['ported'])
    const args = ['netns', 'exec', h1.namespace, '/usr/bin/python3', CLIENT, 'port-rpc', ported?.netns ?? '', '777']
    const { stdout, stderr } = await run('ip', args, { timeoutMs: 30_000 })
    t.match(JSON.parse(stdout || '{}'), { kind: 101, port: 777 }, stderr)
    await h1.cliJson('endpoint', 'detach', '--container-id', 'ported')
  })

  await t.test('three kills of the agent lose no packet', async t => {
    const ping = r1.startPing(to, { count: 1_000, intervalMs: 10 })
    for (let kill = 0; kill < 3; kill++) {
      await h1.killAgent()
      await h1.startAgent()
      await h1.waitReady()
    }
    // Not stopped early: replies in flight would count as lost.
    const { sent, received } = await ping.result
    t.equal(received, sent, `0 of ${sent} lost`)
  })

  await t.test('a bridge deleted by hand is restored', async t => {
    await ovs1.vsctl('del-br', 'vb000000')
    await waitFor('traffic', reaches, { explain: () => h1.logTail() })
    t.ok(await waitForState('no network is degraded', () => h1.status(), { overlay: { degraded: [] } }))
  })

  await t.test('a killed switch is repaired within 10 s of its restart', async t => {
    await ovs1.kill('ovs-vswitchd')
    await waitFor('the agent reports it', async () => (await h1.status()).overlay.degraded.length > 0, {
      timeoutMs: 40_000
    })
    await ovs1.startDaemon('ovs-vswitchd')
    const since = performance.now()
    t.ok(await waitFor('traffic', reaches, { timeoutMs: 10_000, explain: () => h1.logTail() }))
    t.comment(`repaired ${Math.round(performance.now() - since)} ms after the restart`)
    await waitFor('the agent is healthy', async () => (await h1.status()).overlay.degraded.length === 0)
  })

  await t.test('a detached container leaves neither port nor flow', async () => {
    await h1.cliJson('endpoint', 'detach', '--container-id', 'b1')
    const owners = async (): Promise<number> => {
      const dump = await ovs1.ofctl('vb000000', 'dump-flows')
      return new Set(dump.match(/cookie=\w+/g)).size
    }
    await waitFor('flows of the host and of one network are left', async () => (await owners()) === 2)
    const ports = async (): Promise<number> => (await ovs1.vsctl('list-ports', 'vb000000')).trim().split('\n').length
    await waitFor('the tunnel, one container and its router are left', async () => (await ports()) === 3)
    await losesNothingAgain()
  })
})
