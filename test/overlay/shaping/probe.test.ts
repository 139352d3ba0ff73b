// What the probe reports of kernels that lack one thing or another.

import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { probeShaping } from '#overlay/shaping/probe.ts'
import { TrafficKernel } from './traffic-kernel.ts'

const CASES: readonly [title: string, lacks: readonly string[], support: Parameters<typeof t.same>[1]][] = [
  ['a complete kernel', [], { rate: true, fqCodel: true, delay: true }],
  ['no IFB devices', ['ifb'], { rate: false, fqCodel: false, delay: false }],
  ['no token bucket', ['tbf'], { rate: false, fqCodel: false, delay: true }],
  ['no byte queue', ['bfifo'], { rate: false, fqCodel: true, delay: true }],
  ['no clsact', ['clsact'], { rate: false, fqCodel: true, delay: true }],
  ['no fq_codel', ['fq_codel'], { rate: true, fqCodel: false, delay: true }],
  ['no netem', ['netem'], { rate: true, fqCodel: true, delay: false }]
]

for (const [title, lacks, support] of CASES) {
  t.test(`${title} is reported as it is`, async t => {
    const memory = new TrafficKernel()
    memory.lacks = lacks
    const probe = probeShaping(() => memory.socket)
    t.same(probe.support, support)
    t.same(
      probe.features.map(({ present }) => present),
      Object.values(probe.support)
    )
    for (const { present, detail } of probe.features) t.equal(!present, /ENOTSUP|ENOENT|EINVAL/.test(detail), detail)
    t.ok(memory.closed, 'the scratch namespace goes with its socket')
  })
}

t.test('without a scratch namespace nothing is supported, and the reason is given', async t => {
  const { support, features } = probeShaping(() => {
    throw new VxmeshError('ERR_NETNS', 'unshare: EPERM')
  })
  t.same(support, { rate: false, fqCodel: false, delay: false })
  t.ok(features.every(({ detail, required }) => detail === 'unshare: EPERM' && !required))
})

t.test('a refused redirect means that rates cannot be enforced', async t => {
  const memory = new TrafficKernel()
  memory.refuse = doing => (doing === 'redirect' ? 'ENOENT' : null)
  t.same(probeShaping(() => memory.socket).support, { rate: false, fqCodel: true, delay: true })
})
