import { EventEmitter } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Agent } from '#agent/agent.ts'
import { closeParts, type Parts } from '#agent/parts.ts'
import { runAgent, type AgentHost } from '#agent/run.ts'
import { VxmeshError, type ExitCode } from '#model/errors.ts'
import { scratch } from '#test/api/scratch.ts'
import { NotifySocket } from '#test/lab/notify-socket.ts'
import { waitFor } from '#test/lab/wait.ts'
import { AgentWorld, type MemoryAgent } from './memory-agent.ts'

/** A process of an agent: what it emits is up to the test. */
class FakeProcess extends EventEmitter {
  readonly env: NodeJS.ProcessEnv = {}
  readonly exits: ExitCode[] = []

  exit(code: ExitCode): void {
    this.exits.push(code)
  }
}

type Run = {
  readonly world: AgentWorld
  readonly process: FakeProcess
  readonly host: MemoryAgent
  readonly code: Promise<ExitCode>
  /** Null until it has started. */
  readonly agent: () => Agent | null
}

async function run(t: Test, p: { host?: (host: MemoryAgent) => void; env?: NodeJS.ProcessEnv } = {}): Promise<Run> {
  const world = new AgentWorld(t)
  const host = await world.add({ role: 'server', bootstrapExpect: '1' })
  p.host?.(host)
  const process = Object.assign(new FakeProcess(), { env: p.env ?? {} })
  let agent: Agent | null = null
  const { machine, settings } = host
  const loadAgent: AgentHost['loadAgent'] = () => Promise.resolve(async parts => (agent = await Agent.start(parts)))
  const code = world.settle(runAgent({ process, machine, loadAgent }, settings))
  code.catch(() => undefined)
  t.teardown(async () => {
    process.emit('SIGTERM')
    await code.catch(() => undefined)
  })
  return { world, process, host, code, agent: () => agent }
}

/** The signal handlers are there. */
async function started(t: Test, p: Parameters<typeof run>[1] = {}): Promise<Run> {
  const running = await run(t, p)
  await running.world.until('the agent runs', () => running.process.listenerCount('SIGTERM') > 0)
  return running
}

for (const signal of ['SIGTERM', 'SIGINT']) {
  t.test(`${signal} ends the agent in good order, with exit code 0`, async t => {
    const { process, host, code } = await started(t)
    process.emit(signal)
    t.equal(await code, 0)
    t.same(host.steps().slice(-4), ['stop zmq', 'stop mesh', 'stop serf', 'close driver'])
    t.same(process.exits, [])
  })
}

t.test(
  'while the agent starts a signal has its default action, except SIGHUP, which is kept until it has started',
  async t => {
    const serf = Promise.withResolvers<undefined>()
    const { world, process, host, code } = await run(t, { host: made => made.held.set('start serf', serf.promise) })
    await world.until('Serf is starting', () => host.trace.includes('start serf'))
    t.equal(process.listenerCount('SIGTERM'), 0)
    t.equal(process.listenerCount('SIGINT'), 0)
    host.config = { ...host.config, join: ['192.0.2.9:7946'] }
    t.ok(process.emit('SIGHUP'))
    t.notOk(host.trace.includes('set join'), 'it cannot reload yet')
    serf.resolve(undefined)
    await world.until('the addresses are taken', () => host.membership?.seeds.length === 1)
    t.same(host.membership?.seeds, ['192.0.2.9:7946'])
    process.emit('SIGTERM')
    t.equal(await code, 0)
  }
)

t.test('SIGHUP reloads the configuration, and one that is refused does not end the agent', async t => {
  const { world, process, host, agent, code } = await started(t)
  host.config = { ...host.config, join: ['192.0.2.9:7946'] }
  process.emit('SIGHUP')
  await world.until('the addresses are taken', () => host.membership?.seeds.length === 1)
  host.failing.set('set join', new VxmeshError('ERR_STORAGE', 'the disk is full'))
  host.config = { ...host.config, join: ['192.0.2.8:7946'] }
  process.emit('SIGHUP')
  await world.until('it is tried', () => host.trace.filter(step => step === 'set join').length === 2)
  t.same(host.membership?.seeds, ['192.0.2.9:7946'])
  t.ok(agent()?.statusLine())
  process.emit('SIGTERM')
  t.equal(await code, 0)
})

t.test('vxmesh leave ends it with exit code 0', async t => {
  const { host, code } = await started(t)
  await host.call('POST', '/v1/leave')
  t.equal(await code, 0)
  t.equal(host.membership?.status, 'left')
})

t.test('a start that fails is thrown, with nothing left behind', async t => {
  const failure = new VxmeshError('ERR_CONFIG', 'bind: no device has 192.0.2.1', { field: 'bind' })
  const { world, process, code, host } = await run(t, { host: made => made.failing.set('read underlay', failure) })
  await t.rejects(code, { code: 'ERR_CONFIG', field: 'bind' })
  t.equal(host.steps().at(-1), 'close driver')
  t.equal(process.listenerCount('SIGTERM'), 0)
  t.equal(world.manual.pending, 0)
})

for (const event of ['uncaughtException', 'unhandledRejection']) {
  t.test(`an ${event} exits at once with code 1`, async t => {
    const { process, host } = await started(t)
    const steps = host.steps().length
    process.emit(event, new Error('a broken invariant'))
    t.same(process.exits, [1])
    t.equal(host.steps().length, steps, 'no orderly stop: the state cannot be trusted')
  })
}

t.test('an error that ends the agent becomes exit code 1, without an orderly stop', async t => {
  const world = new AgentWorld(t)
  const { machine, settings } = await world.add()
  const broken: Awaited<ReturnType<Awaited<ReturnType<AgentHost['loadAgent']>>>> = {
    ended: Promise.resolve(new Error('the log is damaged')),
    silentMs: 0,
    statusLine: () => '',
    reload: () => Promise.reject(new Error('called')),
    requestStop: () => t.fail('called'),
    stop: () => Promise.reject(new Error('called'))
  }
  const opened: Parts[] = []
  const loadAgent: AgentHost['loadAgent'] = () =>
    Promise.resolve(parts => {
      opened.push(parts)
      return Promise.resolve(broken)
    })
  const process = new FakeProcess()
  t.equal(await world.settle(runAgent({ process, machine, loadAgent }, settings)), 1)
  t.same(process.exits, [], 'the caller exits')
  for (const parts of opened) await closeParts(parts)
})

t.test('the service manager hears of start, reload and stop', async t => {
  const address = join(scratch(t), 'notify')
  const socket = await NotifySocket.open(address)
  t.teardown(() => socket.close())
  const env = { NOTIFY_SOCKET: address, OTHER: 'stays' }
  const { process, host, code } = await started(t, { env })
  t.same(process.env, { OTHER: 'stays' }, 'children do not inherit the variables')
  await waitFor('READY', () => socket.lines.includes('READY=1'))
  t.ok(socket.lines.some(line => line.startsWith('STATUS=')))
  host.config = { ...host.config, collectAfter: 5 }
  process.emit('SIGHUP')
  await waitFor('the second READY', () => socket.lines.filter(line => line === 'READY=1').length === 2)
  t.ok(socket.lines.includes('RELOADING=1'))
  process.emit('SIGTERM')
  t.equal(await code, 0)
  await waitFor('STOPPING', () => socket.lines.at(-1) === 'STOPPING=1')
})

t.test('an address of the service manager that is none is refused before anything is opened', async t => {
  const { code, host } = await run(t, { env: { NOTIFY_SOCKET: 'relative' } })
  await t.rejects(code, { code: 'ERR_CONFIG', field: 'NOTIFY_SOCKET' })
  t.same(host.trace, [])
})
