// The paper's API as a platform uses it: a Python program, written from the contract alone, against a real agent.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { LabContainer } from '../lab/container.ts'
import { Lab } from '../lab/lab.ts'
import { run } from '../lab/run.ts'

const CONNECTIONS = 50
const BURST = 10_000
const SCRIPT = join(import.meta.dirname, '../zmq/client.py')

if (process.getuid?.() !== 0) {
  t.plan(0, 'needs root: network namespaces')
  process.exit(0)
}

type Answer = {
  readonly kind: number
  readonly id: string
  readonly code: number
  readonly ip: number
  readonly name: string
  readonly vni: number
  readonly rx_total: number
  readonly rx_rate: number
  readonly port: number
  readonly detail: Record<string, unknown>
}
type Life = {
  readonly created: readonly Answer[]
  readonly again: Answer
  readonly queried: Answer
  readonly network: Answer
  readonly unknown: Answer
}

const lab = await Lab.create()
t.teardown(() => lab.destroy())
await lab.addServers(1)
const host = lab.host(1)
const containers = await lab.containers(Array.from({ length: CONNECTIONS }, (_, n) => `z${n}`))
const prefix = containers[0]?.netns.slice(0, -1) ?? ''

async function python<T>(scenario: string, what = prefix, count = CONNECTIONS): Promise<T> {
  const args = ['netns', 'exec', host.namespace, '/usr/bin/python3', SCRIPT, scenario, what, `${count}`]
  const { stdout, stderr, exitCode } = await run('ip', args, { timeoutMs: 120_000 })
  if (exitCode !== 0) throw new Error(`client.py ${scenario}: ${stderr}`)
  return JSON.parse(stdout) as T
}

for (const [way, asks, answers] of [
  ['publish', 30027, 30028],
  ['rpc', 30029, 30029]
] as const) {
  t.test(`a network and ${CONNECTIONS} connections are created by port ${asks} and answered on ${answers}`, async t => {
    const life = await python<Life>(`life-${way}`)
    const [network, ...connections] = life.created
    t.match(network, { kind: 111, name: 'paper', subnet: '10.77.0.0/16', gateway: '10.77.0.1', egress: 8_000_000 })
    t.same(new Set(connections.map(({ kind }) => kind)), new Set([101]))
    t.equal(new Set(connections.map(({ ip }) => ip)).size, CONNECTIONS, 'all addresses differ')
    for (const { id, ip, detail, port } of connections) {
      const address = [24, 16, 8, 0].map(bits => (ip >>> bits) & 255).join('.')
      t.match(detail, { address: `${address}/16`, containerId: id, requestId: `r-${id}`, labels: {} })
      t.ok(port > 0, 'the host interface has an index')
    }
    t.equal(
      life.again.ip,
      connections.find(({ id }) => id === life.again.id)?.ip,
      'a repeated request: the same address'
    )
    t.match(life.queried, { kind: 103, network: 0x0a4d0000 })
    t.match(life.network, { kind: 113, vni: network?.vni ?? -1 })
    t.match(life.unknown, { kind: 199, code: 404, detail: { code: 'ERR_ENDPOINT_NOT_FOUND' } })
    await movingCounters(t, way, containers)
    const { deleted } = await python<{ deleted: Answer[] }>(`end-${way}`)
    t.same(new Set(deleted.map(({ kind }) => kind)), new Set([102, 112]))
    t.same(await host.api.call('GET', '/v1/endpoints'), [])
    t.same(await host.api.call('GET', '/v1/networks'), [])
  })
}

/** A query returns counters that move with the containers' traffic. */
async function movingCounters(t: Test, way: string, [a, b]: readonly LabContainer[]): Promise<void> {
  const before = await python<Answer>('query-rpc', way, 1)
  const address = (await b?.link())?.addresses[0] ?? ''
  const ping = await a?.ping(address, { count: 20, intervalMs: 20 })
  const after = await python<Answer>('query-rpc', way, 1)
  t.equal(ping?.received, 20)
  t.ok(after.rx_total >= before.rx_total + 20 * 98, `${before.rx_total}, then ${after.rx_total} bytes received`)
}

for (const way of ['publish', 'rpc']) {
  t.test(`thirty kinds of bad frames by ${way} are answered with error 199, and the socket keeps working`, async t => {
    type Bad = { readonly frames: number; readonly answers: Answer[]; readonly after: Answer }
    const { frames, answers, after } = await python<Bad>(`bad-${way}`)
    t.ok(frames >= 30)
    t.same(new Set(answers.map(({ kind }) => kind)), new Set([199]))
    for (const { detail } of answers) t.match(detail['code'], /^ERR_(INVALID|NETWORK_NOT_FOUND)$/)
    t.match(after, { kind: 199, code: 404 })
  })

  t.test(`${BURST} requests in a burst by ${way} are all answered`, async t => {
    const result = await python<{ answered: number; perSecond: number }>(`burst-${way}`, prefix, BURST)
    t.equal(result.answered, BURST)
    t.comment(`${result.perSecond} requests a second, there and back`)
  })
}

t.test('the example clients of docs/zeromq.md run unchanged', async t => {
  const page = await readFile(join(import.meta.dirname, '../../docs/zeromq.md'), 'utf8')
  const shown = (language: string): string => new RegExp(`\n\`\`\`${language}\n([^]*?)\`\`\``).exec(page)?.[1] ?? ''
  const inside = async (program: string, ...args: readonly string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await host.exec(program, ...args)
    t.equal(exitCode, 0, stderr)
    return stdout
  }
  t.equal(await inside('/usr/bin/python3', '-c', shown('python'), 'c1', `${prefix}0`), '10.1.0.2/16')
  t.match(await host.api.call('GET', '/v1/endpoints/c1'), [{ network: 'blue', address: '10.1.0.2/16' }])
  const typescript = await inside(process.execPath, '--input-type=module-typescript', '-e', shown('ts'))
  t.match(typescript, /^address a010002 received \d+$/)
  t.same(await host.api.call('GET', '/v1/networks'), [])
})

t.test('the agent is still ready and empty', async t => {
  t.match(await host.status(), { ready: true, endpoints: 0, networks: 0 })
})
