import { join } from 'node:path'
import t from 'tap'
import { openParts } from '#agent/parts.ts'
import { systemHost, systemMachine } from '#agent/system.ts'
import { loadConfig } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import { scratch } from '#test/api/scratch.ts'
import { ManualClock } from '#test/lab/manual-clock.ts'
import { freePort } from '#test/lab/free-port.ts'
import { AgentWorld } from './memory-agent.ts'

const overlayOf = async (flags: Readonly<Record<string, string>>): Promise<Config['overlay']> =>
  (await loadConfig({ file: null, env: {}, flags: { bind: '192.0.2.1', insecure: 'true', ...flags } })).overlay

t.test('the linux driver opens without a change of the kernel', async t => {
  const driver = await systemMachine.openDriver(await overlayOf({ 'overlay.driver': 'linux' }), new ManualClock().clock)
  t.equal(driver.name, 'linux')
  t.same(driver.parts.map(({ name }) => name).slice(0, 1), ['devices'], 'no filters before the guard is set')
  await driver.close()
})

t.test('the ovs driver that finds no database server is refused by name, with the socket', async t => {
  const socket = join(scratch(t), 'db.sock')
  const overlay = await overlayOf({ 'overlay.driver': 'ovs', 'overlay.ovs.socket': socket })
  await t.rejects(systemMachine.openDriver(overlay, new ManualClock().clock), {
    code: 'ERR_UNSUPPORTED',
    field: 'overlay.driver',
    message: new RegExp(`ENOENT.*${socket}`)
  })
})

t.test('a container is found below the directories of the configuration only', t => {
  const { hold } = systemMachine.netns(['/run/netns'])
  t.throws(() => hold('/etc/passwd'), { code: 'ERR_NETNS', field: 'netns' })
  t.throws(() => hold('/run/netns/no-such-namespace'), { code: 'ERR_NETNS', message: /ENOENT/ })
  t.throws(() => systemMachine.netns(['/elsewhere']).hold('/run/netns/a'), { code: 'ERR_NETNS', message: /elsewhere/ })
  t.end()
})

t.test('an agent that is loaded late runs over the real mesh and the real ZeroMQ server', async t => {
  const world = new AgentWorld(t)
  const underlay = { bind: '127.0.0.1', 'p2p.port': `${await freePort()}` }
  const h1 = await world.add({ ...underlay, role: 'server', bootstrapExpect: '1' })
  const { startMesh, startZmq } = systemMachine
  h1.real = { startMesh, startZmq }
  const start = await systemHost.loadAgent()
  const agent = await world.settle(openParts(h1.settings).then(start))
  await world.until('it leads', () => agent.statusLine() === 'ready, leader h1, 1 member alive')
  const h2 = await world.add(underlay)
  h2.real = { startMesh }
  await t.rejects(h2.start(), { code: 'ERR_PEER', message: /cannot listen on port/ })
  await world.settle(agent.stop())
})
