import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import {
  changedLabels,
  checkKey,
  isEmpty,
  labelsOfPairs,
  labelTexts,
  matches,
  MAX_LABEL_BYTES,
  MAX_LABEL_TEXT,
  MAX_LABELS,
  parseLabelChanges,
  parseLabelPair,
  parseLabels,
  parseLabelText,
  parseSelectorTerm,
  whyTooMany,
  type LabelChanges,
  type Labels
} from '#model/labels.ts'

const PREFIX = `${'p'.repeat(125)}.${'q'.repeat(127)}`
const NAME = 'n'.repeat(63)
const KEYS = ['app', 'A', '0', 'a.b_c-D', NAME, 'example.com/app', 'x/y', '1.2/3', `${PREFIX}/${NAME}`, 'constructor']
const BAD_KEYS = [
  ...['', '/', 'a/', '/a', 'a/b/c', '-a', 'a-', '_a', 'a.', 'a b', 'a=b', 'a,b', 'ä', 'a\n', '__proto__', `${NAME}n`],
  ...['A.com/a', 'a_b/c', '-a/b', 'a-/b', 'a..b/c', '.a/b', 'a./b', `${PREFIX}p/a`, 'a\0b', 'a;b']
]
const VALUES = ['', 'web', 'V1.2_x-3', '0', NAME]
const BAD_VALUES = [
  ' ',
  '-a',
  'a-',
  '.a',
  'a/b',
  'a b',
  'ä',
  'a=b',
  `${NAME}n`,
  'a\n',
  null,
  undefined,
  7,
  true,
  {},
  []
]

/** So many labels of two bytes and more. */
function many(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, '']))
}

/** Labels of exactly this many bytes. */
function large(bytes: number): Record<string, string> {
  const [labels, rest] = [{} as Record<string, string>, bytes % 100]
  for (let n = 0; n < Math.floor(bytes / 100); n++) labels[`${10 + n}${'k'.repeat(48)}`] = 'v'.repeat(50)
  if (rest > 0) labels['r'.repeat(rest)] = ''
  return labels
}

t.test('keys and values are what Kubernetes allows', t => {
  for (const key of KEYS) t.strictSame(parseLabels({ [key]: 'x' }), { [key]: 'x' }, key)
  for (const value of VALUES) t.strictSame(parseLabels({ app: value }), { app: value }, value)
  t.equal(MAX_LABEL_TEXT, `${PREFIX}/${NAME}=${NAME}`.length)
  t.strictSame(parseLabels({}), {})
  t.end()
})

t.test('others are refused with the field', t => {
  const refused = { code: 'ERR_INVALID', field: 'labels', message: /^labels: / }
  for (const key of BAD_KEYS) {
    const labels: unknown = JSON.parse(`{${JSON.stringify(key)}: "x"}`)
    t.throws(() => parseLabels(labels), refused, key)
    t.throws(() => parseLabelChanges(labels), refused, key)
    t.throws(() => parseLabelChanges(Object.fromEntries([[key, null]])), refused, `${key} removed`)
    t.throws(() => checkKey(key, 'labels'), refused, key)
  }
  for (const value of BAD_VALUES) {
    t.throws(() => parseLabels({ app: value }), refused, JSON.stringify({ value }))
    if (value !== null) t.throws(() => parseLabelChanges({ app: value }), refused, JSON.stringify({ value }))
  }
  for (const value of [null, undefined, 'app=web', 7, [], ['app']]) {
    t.throws(() => parseLabels(value), refused, typeof value)
    t.throws(() => parseLabelChanges(value), refused, typeof value)
  }
  t.throws(() => parseLabels({ 'a b': '' }, 'ConnDetail.labels'), { field: 'ConnDetail.labels', message: /got "a b"$/ })
  t.end()
})

t.test('there are bounds in number and in bytes', t => {
  t.equal(Object.keys(parseLabels(many(MAX_LABELS))).length, MAX_LABELS)
  t.throws(() => parseLabels(many(MAX_LABELS + 1)), { message: 'labels: 33 labels, and 32 are the most' })
  t.strictSame(parseLabels(large(MAX_LABEL_BYTES)), large(MAX_LABEL_BYTES))
  t.throws(() => parseLabels(large(MAX_LABEL_BYTES + 1)), {
    message: 'labels: keys and values have 2049 bytes, and 2048 are the most'
  })
  const removals = (count: number): LabelChanges => Object.fromEntries(Object.keys(many(count)).map(key => [key, null]))
  t.equal(Object.keys(parseLabelChanges({ ...removals(MAX_LABELS), ...large(MAX_LABEL_BYTES) })).length, 32 + 21)
  t.throws(() => parseLabelChanges(removals(MAX_LABELS + 1)), { field: 'labels', message: /remove at most 32/ })
  t.throws(() => parseLabelChanges(many(MAX_LABELS + 1)), { code: 'ERR_INVALID', field: 'labels' })
  t.equal(whyTooMany({}), null)
  t.end()
})

t.test('text is pairs that are separated by commas', t => {
  t.strictSame(parseLabelText('', 'X'), {})
  t.strictSame(parseLabelText('b=,example.com/a=1', 'X'), { b: '', 'example.com/a': '1' })
  for (const text of [',', 'a', 'a=1,', ',a=1', 'a=1,,b=2', 'a=1 ,b=2', '=1', 'a=1=2', 'a=1;b=2', 'a=1,a=1'])
    t.throws(() => parseLabelText(text, 'CNI_ARGS: X'), { code: 'ERR_INVALID', field: 'CNI_ARGS: X' }, text)
  t.strictSame(parseLabelPair('a=', '--label'), ['a', ''])
  t.throws(() => parseLabelPair('a', '--label'), { message: '--label: must be KEY=VALUE, got "a"' })
  t.throws(
    () =>
      labelsOfPairs(
        [
          ['a', '1'],
          ['b', '2'],
          ['a', '2']
        ],
        '--label'
      ),
    { message: '--label: "a" is given twice' }
  )
  t.end()
})

t.test('a selector chooses what has all its labels', t => {
  const term = (text: string): ReturnType<typeof parseSelectorTerm> => parseSelectorTerm(text, 'label')
  const labels: Labels = { app: 'web', empty: '', 'example.com/tier': 'front' }
  for (const [terms, isChosen] of [
    [[], true],
    [['app'], true],
    [['app=web'], true],
    [['app=web', 'empty=', 'example.com/tier=front'], true],
    [['empty'], true],
    [['app='], false],
    [['app=we'], false],
    [['tier'], false],
    [['app=web', 'tier'], false],
    [['toString'], false],
    [['constructor='], false]
  ] as const)
    t.equal(matches(terms.map(term), labels), isChosen, terms.join())
  t.equal(matches([term('app')], {}), false)
  for (const text of ['', '=', '=web', 'a b', 'app=a b', 'app==', 'app!=web', 'app in (web)'])
    t.throws(() => term(text), { code: 'ERR_INVALID', field: 'label' }, text)
  t.end()
})

const key = fc.constantFrom(...KEYS, '10', '2', 'b', 'toString')
const value = fc.constantFrom(...VALUES)
const labels = fc.dictionary(key, value)
const changes = fc.dictionary(key, fc.option(value))

t.test('changed labels are what a map has after the same changes, in one form for equal ones', t => {
  const property = fc.property(labels, fc.array(changes), (start, steps) => {
    const map = new Map(Object.entries(start))
    let now = parseLabels(start)
    for (const step of steps) {
      now = changedLabels(now, parseLabelChanges(step))
      for (const [name, text] of Object.entries(step))
        if (text === null) map.delete(name)
        else map.set(name, text)
    }
    const expected = parseLabels(Object.fromEntries([...map].reverse()))
    assert.deepEqual(now, expected)
    assert.equal(JSON.stringify(now), JSON.stringify(expected), 'also in their order')
    assert.equal(isEmpty(now), map.size === 0)
    assert.deepEqual(parseLabelText(labelTexts(now).join(), 'X'), now)
  })
  fc.assert(property, { numRuns: 1_000 })
  t.pass()
  t.end()
})
