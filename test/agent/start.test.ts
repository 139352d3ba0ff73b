// A start that fails: the error names the part, whatever was open is closed again, and the next start succeeds.

import { mkdirSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { restoreBackup } from '#backup/backup.ts'
import { ApiClient } from '#cli/client.ts'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import { lockDirectory } from '#platform/lock.ts'
import { AgentWorld, type MemoryAgent } from './memory-agent.ts'

type Undo = () => unknown
type Failure = {
  readonly what: string
  /** Makes the start fail. @returns how to repair it */
  readonly cause: (host: MemoryAgent) => Undo | Promise<Undo>
  readonly code: ErrorCode
  readonly field?: string
  readonly message?: RegExp
  /** Steps after the failing one. */
  readonly closed: readonly string[]
}

/** The step rejects with this error. */
function failing(step: string, code: ErrorCode, field?: string): Pick<Failure, 'what' | 'cause' | 'code' | 'field'> {
  const options = field === undefined ? {} : { field }
  return {
    what: `"${step}" fails`,
    cause: host => {
      host.failing.set(step, new VxmeshError(code, `${step}: refused`, options))
      return () => host.failing.clear()
    },
    code,
    ...options
  }
}

/** Somebody else listens there. */
async function occupy(at: number | string): Promise<Undo> {
  const server = createServer()
  const where = typeof at === 'number' ? { port: at, host: '127.0.0.1' } : { path: at }
  await new Promise<void>(resolve => server.listen(where, resolve))
  return () => new Promise(resolve => server.close(resolve))
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1))
}

/** Files below the directory that this process has open. */
function openFiles(dir: string): readonly string[] {
  return readdirSync('/proc/self/fd')
    .flatMap(fd => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)]
      } catch {
        // The descriptor of the listing itself.
        return []
      }
    })
    .filter(path => path.startsWith(dir))
}

const PARTS = ['stop serf', 'close driver']
const ALL = ['stop mesh', ...PARTS]

const FAILURES: readonly Failure[] = [
  { ...failing('open driver', 'ERR_UNSUPPORTED', 'overlay.driver'), closed: [] },
  { ...failing('set guard', 'ERR_UNSUPPORTED', 'overlay.guard'), closed: ['close driver'] },
  { ...failing('set doors', 'ERR_KERNEL'), closed: ['close driver'] },
  { ...failing('read underlay', 'ERR_CONFIG', 'bind'), closed: ['close driver'] },
  {
    what: 'the identity is damaged',
    cause: ({ config: { dataDir } }) => {
      mkdirSync(dataDir, { recursive: true })
      writeFileSync(join(dataDir, 'identity.key'), 'half')
      return () => rmSync(join(dataDir, 'identity.key'))
    },
    code: 'ERR_STORAGE',
    message: /identity.key is damaged/,
    closed: ['close driver']
  },
  {
    what: 'the data directory is a file',
    cause: ({ config: { dataDir } }) => {
      writeFileSync(dataDir, '')
      return () => rmSync(dataDir)
    },
    code: 'ERR_STORAGE',
    closed: []
  },
  {
    what: 'another agent has the data directory',
    cause: async ({ config: { dataDir } }) => {
      mkdirSync(dataDir, { recursive: true })
      const lock = await lockDirectory(dataDir)
      return () => lock.release()
    },
    code: 'ERR_CONFIG',
    field: 'dataDir',
    message: /in use/,
    closed: []
  },
  { ...failing('launch serf', 'ERR_SERF'), closed: PARTS },
  { ...failing('start mesh', 'ERR_PEER'), closed: PARTS },
  { ...failing('start serf', 'ERR_SERF'), closed: ['stop zmq', ...ALL] },
  { ...failing('start zmq', 'ERR_CONFIG', 'zmq.rpc'), closed: ALL },
  {
    what: 'http.listen is in use',
    cause: ({ config }) => occupy(portOf(config.http.listen)),
    code: 'ERR_CONFIG',
    field: 'http.listen',
    closed: ALL
  },
  {
    what: 'an agent listens on the socket',
    cause: ({ config }) => occupy(config.socket),
    code: 'ERR_CONFIG',
    field: 'socket',
    message: /an agent is listening/,
    closed: ALL
  },
  {
    what: 'the port of zmq.rpc is in use',
    cause: ({ config }) => occupy(portOf(config.zmq.rpc)),
    code: 'ERR_CONFIG',
    field: 'zmq.rpc',
    closed: ALL
  },
  {
    what: 'the kernel cannot tell whose a connection to ZeroMQ is',
    cause: host => {
      host.kernel.noOwners = 'nftables cannot match users'
      return () => (host.kernel.noOwners = null)
    },
    code: 'ERR_CONFIG',
    field: 'zmq.requests',
    message: /nftables cannot match users/,
    closed: ALL
  }
]

for (const { what, cause, code, field, message = /./, closed } of FAILURES) {
  t.test(`${what}: the start fails, closes what was open, and the next one succeeds`, async t => {
    const world = new AgentWorld(t)
    const h1 = await world.add({ role: 'server', bootstrapExpect: '1' })
    const undo = await cause(h1)
    await t.rejects(h1.start(), { code, ...(field === undefined ? {} : { field }), message })
    t.same(
      h1.steps().filter(step => /^(stop|close)/.test(step)),
      closed
    )
    t.equal(world.manual.pending, 0, 'no timer is left')
    t.same(h1.kernel.changes, [], 'the kernel is unchanged')
    await undo()
    t.same(openFiles(h1.dir), [], 'no file is left open')
    await h1.start()
    t.match(await h1.call('GET', '/v1/status'), { host: 'h1' })
  })
}

t.test('a start that fails while Serf is starting waits for it', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.add()
  const serf = Promise.withResolvers<undefined>()
  h1.held.set('start serf', serf.promise)
  h1.failing.set('start zmq', new VxmeshError('ERR_CONFIG', 'in use', { field: 'zmq.rpc' }))
  const starting = h1.start()
  starting.catch(() => undefined)
  await world.until('ZeroMQ has failed', () => h1.trace.includes('start zmq'))
  await world.manual.advance(1_000)
  t.notOk(h1.trace.includes('stop serf'), 'what is starting could not be stopped')
  serf.resolve(undefined)
  await t.rejects(starting, { code: 'ERR_CONFIG', field: 'zmq.rpc' })
  t.same(h1.steps().slice(-3), ALL)
})

t.test('a backup that was restored on a client is refused by name', async t => {
  const world = new AgentWorld(t)
  const h1 = await world.founder()
  const file = join(h1.dir, 'backup.snap')
  writeFileSync(file, await world.settle(new ApiClient(h1.config.socket).bytes('/v1/snapshot')))
  const h2 = await world.add()
  await restoreBackup({ file, dataDir: h2.config.dataDir })
  await t.rejects(h2.start(), { code: 'ERR_CONFIG', field: 'role', message: /a backup was restored/ })
  t.same(h2.steps(), ['open driver', 'set guard', 'set doors', 'set serf limits', 'close driver'])
})
