// What the matrix counts as passed, failed and not possible.

import t from 'tap'
import { failuresOf, format, passedOf, readColumn } from './matrix.ts'

const TAP = `TAP version 14
# Subtest: mesh
    ok 1 - r1 reaches r2
    not ok 2 - an inner line alone decides nothing
ok 1 - mesh # time=12.3ms
not ok 2 - drift # time=1ms
ok 3 - drift # time=1ms
ok 4 - delay # SKIP no netem
`

t.test('top-level tests become cells; of two with one name the worse counts', t => {
  const { cells } = readColumn('linux', { tap: TAP, exitCode: 1 })
  t.strictSame(
    [...cells],
    [
      ['mesh', 'ok'],
      ['drift', 'FAILED'],
      ['delay', 'not possible here (no netem)']
    ]
  )
  t.equal(failuresOf([{ title: '', cells }]), 1)
  t.equal(passedOf([{ title: '', cells }]), 1)
  t.end()
})

t.test('a run that ends badly or prints no result is a failure', t => {
  const good = 'ok 1 - mesh # time=1ms\n'
  for (const [tap, exitCode, failures] of [
    [good, 0, 0],
    [good, 1, 1],
    ['', 0, 1],
    ['Error: it did not boot', 1, 1]
  ] as const) {
    t.equal(failuresOf([readColumn('linux', { tap, exitCode })]), failures, `${tap.trim()}, exit ${exitCode}`)
  }
  t.end()
})

t.test('a scenario that a plane does not have is a dash', t => {
  const column = (title: string, tap: string): ReturnType<typeof readColumn> => readColumn(title, { tap, exitCode: 0 })
  const text = format([column('a', 'ok 1 - mesh\n'), column('b', 'ok 1 - mesh\nok 2 - documented\n')])
  t.equal(text, 'scenario    a   b\nmesh        ok  ok\ndocumented  -   ok')
  t.end()
})
