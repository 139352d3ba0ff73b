// Egress with real agents: what a container notices when the agent dies, when a rate changes and when its network is empty.

import t from 'tap'
import { spawn } from 'node:child_process'
import type { LabHost } from '../lab/host.ts'
import { ipBatch, must } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { routersOf } from '../lab/routers.ts'
import { waitFor, waitForState } from '../lab/wait.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const SERVER = '203.0.113.10'

/** A namespace outside of the lab, with a server, on a second uplink of the host. */
async function addOutside(lab: Lab, host: LabHost): Promise<string> {
  const { namespace } = await lab.container('outside')
  await ipBatch([`link add eth1 netns ${host.namespace} type veth peer name eth0 netns ${namespace}`])
  const server = ['link set lo up', 'link set eth0 up', 'addr add 198.51.100.254/24 dev eth0']
  await ipBatch([...server, `addr add ${SERVER}/32 dev lo`], namespace)
  const way = ['addr add 198.51.100.1/24 dev eth1', 'link set eth1 up', 'route add default via 198.51.100.254']
  await ipBatch(way, host.namespace)
  return namespace
}

t.test('a container’s egress survives its agent, follows its rate and ends with its network', { skip }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const h1 = await lab.addHost({ bootstrapExpect: 1, join: [] })
  const outside = await addOutside(lab, h1)
  await h1.startAgent()
  await h1.waitReady()
  const routers = (): Promise<string[]> => routersOf([h1.namespace])

  await h1.cliJson('network', 'create', 'red', '--subnet', '10.1.0.0/24')
  await h1.cliJson('network', 'create', 'shut', '--subnet', '10.1.0.0/24', '--no-egress')
  const [one, two, three] = await lab.containers(['one', 'two', 'three'])
  if (one === undefined || two === undefined || three === undefined) throw new Error('no containers')
  await h1.attach(one, 'red')
  const first = await one.ping(SERVER, { count: 1, waitMs: 1_000 })
  t.equal(first.received, 1, 'the first packet after attach gets out')
  await h1.attach(two, 'shut')
  t.same(await two.defaultGateways(), [], 'no default route without egress')
  t.equal((await two.ping(SERVER, { count: 2, waitMs: 300 }).catch(() => ({ received: 0 }))).received, 0)
  t.equal((await routers()).length, 1)

  const server = spawn('ip', ['netns', 'exec', outside, 'iperf3', '-s', '-B', SERVER], { stdio: 'ignore' })
  t.teardown(() => server.kill('SIGKILL'))
  await waitFor('iperf3 listens', async () =>
    (await must('ip', ['netns', 'exec', outside, 'ss', '-ltn'])).includes('5201')
  )
  const stream = run('ip', ['netns', 'exec', one.namespace, 'iperf3', '-J', '-c', SERVER, '-b', '200M', '-t', '15'], {
    timeoutMs: 40_000
  })
  const ping = one.startPing(SERVER, { count: 1_400, intervalMs: 10 })
  const before = await must('ip', ['-n', (await routers())[0] ?? '', '-o', 'link'])
  for (let kill = 0; kill < 3; kill++) {
    await h1.killAgent()
    await h1.startAgent()
    await h1.waitReady()
  }
  const { sent, received } = await ping.result
  t.equal(received, sent, `${received} of ${sent} pings are answered through three kills`)
  const { exitCode, stdout } = await stream
  t.equal(exitCode, 0, `the stream ends without an error${exitCode === 0 ? '' : `: ${stdout.slice(-500)}`}`)
  t.equal(await must('ip', ['-n', (await routers())[0] ?? '', '-o', 'link']), before, 'the same devices')

  const [router = ''] = await routers()
  for (const [rate, text] of [
    ['10mbit', /rate 10\d{3}Kbit/],
    ['50mbit', /rate 50\d{3}Kbit/]
  ] as const) {
    await h1.cliJson('network', 'update', 'red', '--egress-rate', rate)
    const queue = async (): Promise<boolean> =>
      text.test(await must('tc', ['-n', router, 'qdisc', 'show', 'dev', 'outside']))
    await waitFor(`the router enforces ${rate}`, queue, { timeoutMs: 1_000 })
    t.pass(`${rate} is enforced within a second`)
  }

  await must('ip', ['-n', h1.namespace, 'link', 'del', 'vo' + router.slice(4, 10)])
  await waitFor('egress is repaired', async () => (await one.ping(SERVER, { count: 1, waitMs: 200 })).received === 1, {
    timeoutMs: 10_000
  })
  t.pass('a deleted device is repaired')

  for (const [what, ...change] of [
    ['its address', 'ip', 'addr', 'flush', 'dev', 'outside'],
    ['its rules', 'nft', 'flush', 'ruleset'],
    ['its routes', 'ip', 'route', 'flush', 'table', 'main'],
    ['its next hop', 'ip', 'neigh', 'flush', 'all', 'nud', 'permanent'],
    ['its device', 'ip', 'link', 'set', 'outside', 'down']
  ] as const) {
    const facts = async (): Promise<string> => {
      const lists = ['address', 'route', 'neigh show nud permanent'].map(list =>
        must('ip', ['-n', router, '-o', ...list.split(' ')])
      )
      return (
        [...(await Promise.all(lists)), await must('ip', ['netns', 'exec', router, 'nft', 'list', 'ruleset'])]
          .join('\n')
          // The router counts connections in a set whose elements come and go with them.
          .replaceAll(/(packets|bytes) \d+|valid_lft \S+|\s*elements = \{[^}]*\}/g, '')
      )
    }
    // The count proves the repair: it may be over before a poll has seen the damage.
    const repairs = async (): Promise<number> => (await h1.status()).overlay.repaired['router-repair'] ?? 0
    const [right, before] = [await facts(), await repairs()]
    await must('ip', ['netns', 'exec', router, ...change])
    await waitFor(`${what} is repaired`, async () => (await repairs()) > before && (await facts()) === right)
    t.equal((await one.ping(SERVER, { count: 1, waitMs: 500 })).received, 1, `egress works after the repair of ${what}`)
  }

  await h1.attach(three, 'red')
  await h1.detach(one)
  t.equal((await three.ping(SERVER, { count: 1 })).received, 1, 'the network’s other container keeps its egress')
  await h1.detach(three)
  await waitFor('the router is gone', async () => (await routers()).length === 0)
  const rules = async (): Promise<string> => (await h1.exec('nft', 'list', 'ruleset')).stdout
  await waitFor('the rules are gone', async () => !(await rules()).includes('vxmesh_nat'))
  await waitForState('no drift is left', () => h1.status(), { overlay: { drift: 0 } })
})
