// What the attack table counts as held.

import t from 'tap'
import { failedLine, formatTable, lineOf } from './row.ts'

const [good, bad] = [
  { ok: true, figure: '5 of 5' },
  { ok: false, figure: '3 of 5' }
]

t.test('an attack has held only if its control shows that it would have been seen', t => {
  t.equal(lineOf('a', { control: good, attack: good }).verdict, 'held')
  t.equal(lineOf('a', { control: good, attack: bad }).verdict, 'BROKE')
  t.equal(lineOf('a', { control: bad, attack: good }).verdict, 'NO CONTROL')
  t.equal(lineOf('a', { control: bad, attack: bad }).verdict, 'NO CONTROL')
  t.end()
})

t.test('a row that ends with an error has failed, with the first line of the reason', t => {
  t.match(failedLine('a', new Error('it is gone\nand its log')), { figure: 'it is gone', verdict: 'FAILED' })
  t.match(failedLine('a', 'text'), { figure: 'text', verdict: 'FAILED' })
  t.end()
})

t.test('the table counts everything but what has held as failed', t => {
  const lines = [
    lineOf('flood', { control: good, attack: good }),
    lineOf('spoof', { control: good, attack: bad }),
    failedLine('x', new Error('no'))
  ]
  t.strictSame(formatTable(lines).split('\n'), [
    'attack | control | figure | verdict',
    'flood  | 5 of 5  | 5 of 5 | held',
    'spoof  | 5 of 5  | 3 of 5 | BROKE',
    'x      |         | no     | FAILED',
    '1 passed, 2 failed'
  ])
  t.end()
})
