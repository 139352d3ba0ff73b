// Rules on kernels with and without NF_CONNTRACK_TIMEOUT. No kernel is touched: nft is a function that refuses.

import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { RuleWriter } from '#overlay/gateway/rule-writer.ts'
import { withoutTimeouts } from '#overlay/plan/gateway/limits.ts'
import { hostRules, routerRules } from '#overlay/plan/gateway/rules.ts'
import { gatewaysOf, open } from './desired.ts'

const REFUSAL = 'Could not process rule: Operation not supported'

function router(): string {
  const found = gatewaysOf(['10.1.0.2']).routers.get(open.vni)
  if (found === undefined) throw new Error('no router')
  return routerRules(found)
}

/** An nft that refuses what a kernel without timeouts does, or everything; it keeps what it took. */
function make(p: { timeouts: boolean; broken?: boolean }) {
  const [taken, refused]: [string[], string[]] = [[], []]
  let probes = 0
  const writer = new RuleWriter({
    nft: async (_netns, script, doing) => {
      const ok = p.broken !== true && (p.timeouts || !script.includes('ct timeout'))
      ;(ok ? taken : refused).push(script)
      if (!ok) throw new VxmeshError('ERR_KERNEL', `${doing}: ${REFUSAL}`)
    },
    probe: async () => {
      probes += 1
      return p.timeouts ? null : REFUSAL
    }
  })
  return { writer, taken, refused, probes: () => probes }
}

t.test('a kernel with timeouts gets all rules, and is asked nothing', async t => {
  const { writer, taken, probes } = make({ timeouts: true })
  await writer.write(null, router(), 'write')
  t.same(taken, [router()])
  t.equal(probes(), 0)
  t.match(await writer.feature(), { name: 'connection-timeouts', present: true })
})

t.test('a kernel without timeouts gets the rules without them, and no others a second time', async t => {
  const { writer, taken, refused, probes } = make({ timeouts: false })
  await writer.write('/run/netns/a', router(), 'write')
  await writer.write('/run/netns/a', router(), 'write')
  t.same(taken, [withoutTimeouts(router()), withoutTimeouts(router())])
  t.equal(refused.length, 1)
  t.equal(probes(), 1)
  const feature = await writer.feature()
  t.match(feature, { present: false, required: false, detail: /up to 120 s.*NF_CONNTRACK_TIMEOUT.*not supported/ })
})

t.test('another failure is no reason to go without timeouts', async t => {
  const { writer, taken, refused } = make({ timeouts: true, broken: true })
  await t.rejects(writer.write(null, router(), 'write it'), { code: 'ERR_KERNEL', message: /^write it/ })
  t.same([taken.length, refused.length], [0, 1])
})

t.test('rules that are refused without timeouts, too, fail', async t => {
  const { writer } = make({ timeouts: false, broken: true })
  await t.rejects(writer.write(null, router(), 'write it'), { code: 'ERR_KERNEL' })
})

t.test('without timeouts all other limits are in force', t => {
  const observed = { underlay: [], exits: [], closed: [], tableSize: 262_144 }
  for (const script of [router(), hostRules(gatewaysOf([]), observed)]) {
    const lines = script.split('\n')
    const left = new Set(withoutTimeouts(script).split('\n'))
    const gone = lines.filter(line => !left.has(line))
    t.equal(gone.length, 4, 'two timeouts and two rules')
    t.ok(gone.every(line => line.includes('ct timeout')))
    t.ok([...left].some(line => line.includes('ct state invalid drop')))
  }
  t.match(withoutTimeouts(router()), /ct count over/)
  t.end()
})
