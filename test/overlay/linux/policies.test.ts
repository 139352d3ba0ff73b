// IPsec policies of a host: ip-xfrm(8) sets them.

import t, { type Test } from 'tap'
import { Policies } from '#overlay/linux/policies.ts'
import { watchPolicies } from '#overlay/linux/watch.ts'
import { systemClock } from '#platform/clock.ts'
import { ip } from '../../lab/kernel.ts'
import { Lab } from '../../lab/lab.ts'
import { cannotRun } from '../../lab/requirements.ts'
import { waitFor } from '../../lab/wait.ts'
import { run } from '../../lab/run.ts'

const skip = cannotRun() === false ? await hasNone() : cannotRun()
const POLICY = 'src 203.0.113.1/32 dst 203.0.113.2/32'

async function hasNone(): Promise<string | false> {
  const { exitCode } = await run('ip', ['xfrm', 'policy', 'list'])
  return exitCode === 0 ? false : 'a kernel without IPsec'
}

async function host(
  t: Test
): Promise<{ readonly namespace: string; readonly netns: string; readonly policies: Policies }> {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const { namespace, netns } = await lab.container('host')
  const policies = Policies.open(netns)
  t.teardown(() => policies.close())
  return { namespace, netns, policies }
}

t.test('a policy of any direction is one, and of this namespace only', { skip }, async t => {
  const [one, other] = [await host(t), await host(t)]
  t.ok(one.policies.supported)
  for (const policy of [
    `${POLICY} dir out action block`,
    `${POLICY} dir in tmpl proto esp mode transport`,
    `${POLICY} dir fwd tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel`
  ]) {
    t.equal(one.policies.exist(), false, policy)
    await ip(one.namespace, `xfrm policy add ${policy}`)
    t.equal(one.policies.exist(), true, policy)
    t.equal(other.policies.exist(), false, 'another host')
    await ip(one.namespace, 'xfrm policy flush')
  }
  t.equal(one.policies.exist(), false)
})

t.test('a state without a policy is none', { skip }, async t => {
  const { namespace, policies } = await host(t)
  const state = 'src 192.0.2.1 dst 192.0.2.2 proto comp spi 0x1234 mode transport comp deflate'
  const { exitCode } = await run('ip', ['-n', namespace, 'xfrm', 'state', 'add', ...state.split(' ')])
  if (exitCode !== 0) t.comment('this kernel has no protocol of IPsec')
  t.equal(policies.exist(), false)
})

t.test('the first policy and the end of the last one are told, and no other', { skip }, async t => {
  const { namespace, netns, policies } = await host(t)
  let heard = 0
  const stop = watchPolicies({ netns, clock: systemClock, changed: () => policies.changed(), listener: () => heard++ })
  t.teardown(stop)
  policies.exist()
  await ip(namespace, `xfrm policy add ${POLICY} dir out action block`)
  await waitFor('the first one', () => heard === 1)
  t.ok(policies.changed())
  policies.exist()
  t.notOk(policies.changed())
  await ip(namespace, `xfrm policy add ${POLICY} dir in action block`)
  await ip(namespace, 'xfrm policy flush')
  await waitFor('the end of both', () => heard === 2)
  t.equal(policies.exist(), false)
})
