// Faults are injected one at a time, and doctor names each.

import { chmod } from 'node:fs/promises'
import t from 'tap'
import type { DoctorView, FindingView } from '#model/views.ts'
import type { LabHost } from '../lab/host.ts'
import { ipBatch } from '../lab/kernel.ts'
import { expectOracle } from '../lab/oracle.ts'
import { waitFor } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'

if (process.getuid?.() !== 0) {
  t.plan(0, 'needs root: network namespaces')
  process.exit(0)
}

type Level = FindingView['level']

async function doctor(host: LabHost, ...args: string[]): Promise<{ view: DoctorView; exit: number; ms: number }> {
  const since = performance.now()
  const { stdout, stderr, exitCode } = await host.cli('doctor', '--config', host.configFile, '-o', 'json', ...args)
  const ms = Math.round(performance.now() - since)
  if (stdout === '') throw new Error(stderr)
  return { view: JSON.parse(stdout) as DoctorView, exit: exitCode, ms }
}

const finding = ({ findings }: DoctorView, id: string): FindingView | undefined => findings.find(f => f.id === id)

t.test('doctor', async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 3, attached: 3 })
  const h1 = lab.host(1)
  /** Waits until doctor's finding `id` has this level and text. */
  const says = (id: string, level: Level, found: RegExp, host = h1): Promise<FindingView> =>
    waitFor(
      `${id} ${level}`,
      async () => {
        const { view, exit, ms } = await doctor(host)
        t.equal(exit, view.failed > 0 ? 7 : 0)
        t.comment(`${id}: ${ms} ms`)
        const one = finding(view, id)
        return one?.level === level && found.test(one.found) ? one : false
      },
      { timeoutMs: 60_000, explain: () => h1.logTail() }
    )

  await t.test('a healthy mesh has no failed finding', async t => {
    await says('state.equal', 'ok', /./)
    await says('mtu', 'ok', /2 hosts/)
    const { view, exit, ms } = await doctor(h1)
    t.same(
      view.findings.filter(({ level }) => level === 'failed'),
      []
    )
    t.equal(exit, 0)
    t.comment(`${ms} ms; ${view.findings.map(({ id, level, found }) => `\n${level} ${id}: ${found}`).join('')}`)
    for (const [id, found] of [
      ['ports', /2 hosts/],
      ['tunnel', /VXLAN reaches 2 hosts/],
      ['mtu', /full size passes to 2 hosts/],
      ['state.equal', /./],
      ['serf', /encrypted/],
      ['quorum', /3 of 3 servers in reach: 1 may fail/],
      ['kernel.underlay-guard', /works/]
    ] as const) {
      t.match(finding(view, id), { level: 'ok', found }, id)
    }
  })

  await t.test('of a smaller MTU on one host it names the pair and the largest size that passes', async t => {
    await ipBatch(['link set eth0 mtu 1400'], lab.host(3).namespace)
    const { found, todo } = await says('mtu', 'failed', /to h3 14\d\d of 1500 bytes pass/)
    t.notMatch(found, /h2/)
    t.match(todo, /overlay.mtu: 13\d\d/)
    await ipBatch(['link set eth0 mtu 1500'], lab.host(3).namespace)
    await says('mtu', 'ok', /./)
  })

  await t.test('it names ports that a firewall closes', async () => {
    await lab.host(2).dropFrom(h1, [7946])
    await says('ports', 'failed', /h2 serf 192.0.2.2:7946: no answer/)
    await lab.host(2).heal()
    await lab
      .host(2)
      .nft([
        'add table inet vxlab',
        'add chain inet vxlab input { type filter hook input priority 0; }',
        'add rule inet vxlab input udp dport 4789 drop'
      ])
    await says('tunnel', 'failed', /nothing comes out of the tunnel on h2/)
    await lab.host(2).heal()
    await says('tunnel', 'ok', /2 hosts/)
  })

  await t.test('it names files that others may read', async () => {
    await chmod(lab.keyFile, 0o644)
    await says('permissions', 'failed', /cluster.key has mode 0644/)
    await chmod(lab.keyFile, 0o600)
    await chmod(h1.socket, 0o666)
    await says('permissions', 'failed', /agent.sock has mode 0666/)
    await chmod(h1.socket, 0o600)
    await says('permissions', 'ok', /./)
  })

  await t.test('flushed rules are repaired before it looks', async () => {
    await h1.nft(['flush ruleset'])
    await says('overlay', 'ok', /as desired/)
    await says('kernel.underlay-guard', 'ok', /works/)
  })

  await t.test('it names a failed peer and how many more may fail', async () => {
    await lab.host(3).killHost()
    await says('members', 'warning', /h3 failed/)
    await says('quorum', 'warning', /2 of 3 servers in reach, without h3: 0 may fail/)
    await lab.host(3).linkUp()
    await lab.host(3).startAgent()
    await lab.host(3).waitReady(60_000)
    await says('quorum', 'ok', /3 of 3/)
  })

  await t.test('without an agent it reports that and checks the machine', async t => {
    await h1.stopAgent()
    const { view, exit } = await doctor(h1)
    t.equal(exit, 7)
    t.match(finding(view, 'agent'), { level: 'failed', found: /no agent answers/ })
    t.match(finding(view, 'mesh'), { level: 'warning' })
    t.match(finding(view, 'kernel.vxlan'), { level: 'ok' })
    const offline = await doctor(h1, '--offline')
    t.equal(offline.exit, 0)
    t.match(finding(offline.view, 'agent'), { level: 'warning', found: /--offline/ })
    await h1.startAgent()
    await h1.waitReady(60_000)
  })

  t.equal((await nth(containers, 1).ping(nth(endpoints, 2).address, { count: 3 })).received, 3)
  await expectOracle(lab)
})
