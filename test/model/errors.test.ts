import t from 'tap'
import { asVxmeshError, ERROR_CODES, invalid, isErrorCode, VxmeshError } from '#model/errors.ts'

t.test('every code is well-formed and has an HTTP error status and a non-zero exit code', t => {
  for (const [code, { http, exit }] of Object.entries(ERROR_CODES)) {
    t.match(code, /^ERR_[A-Z]+(_[A-Z]+)*$/)
    t.ok(http >= 400 && http < 600, code)
    t.ok(exit >= 1 && exit <= 7, code)
    t.equal(isErrorCode(code), true)
  }
  t.end()
})

t.test('exit codes correspond to HTTP statuses as in the contract', t => {
  for (const [code, { http, exit }] of Object.entries(ERROR_CODES)) {
    if (http === 404) t.equal(exit, 4, code)
    if (http === 409) t.equal(exit, 5, code)
    if (http === 400) t.equal(exit, 2, code)
  }
  t.equal(ERROR_CODES.ERR_NO_QUORUM.exit, 6)
  t.equal(ERROR_CODES.ERR_AGENT_UNREACHABLE.exit, 3)
  t.equal(ERROR_CODES.ERR_CHECK_FAILED.exit, 7)
  t.end()
})

for (const text of [
  '',
  'ERR_X',
  'err_invalid',
  'ERR_INVALID ',
  'constructor',
  'toString',
  '__proto__',
  'hasOwnProperty'
]) {
  t.test(`"${text}" is not a code`, t => {
    t.equal(isErrorCode(text), false)
    t.end()
  })
}

t.test('the wire form has code, message and field, never cause or context', t => {
  const cause = new Error('secret')
  const err = new VxmeshError('ERR_INVALID', 'vni: no', { field: 'vni', cause, context: { key: 'secret' } })
  t.strictSame(err.toBody(), { code: 'ERR_INVALID', message: 'vni: no', field: 'vni' })
  t.equal(err.cause, cause)
  const bare = new VxmeshError('ERR_BUSY', 'later')
  t.strictSame(bare.toBody(), { code: 'ERR_BUSY', message: 'later' })
  t.notOk('cause' in bare)
  for (const each of [err, bare]) t.strictSame(VxmeshError.fromBody(each.toBody()).toBody(), each.toBody())
  t.end()
})

t.test('an error about input names its field', t => {
  const err = invalid('subnet', 'must be a subnet')
  t.match(err, { code: 'ERR_INVALID', field: 'subnet', message: 'subnet: must be a subnet' })
  t.end()
})

const bare = Object.create(null) as object
const thrown: readonly (readonly [thrown: unknown, message: string])[] = [
  [new TypeError('x is undefined'), 'x is undefined'],
  ['a text', 'a text'],
  [undefined, 'undefined'],
  [null, 'null'],
  [7n, '7'],
  [Symbol('s'), 'Symbol(s)'],
  [bare, 'a thrown value that is not an error'],
  [{ toString: 7 }, 'a thrown value that is not an error']
]
for (const [value, message] of thrown) {
  t.test(`any thrown value becomes a VxmeshError: ${message}`, t => {
    const err = asVxmeshError(value)
    t.equal(err.code, 'ERR_INTERNAL')
    t.equal(err.message, message)
    t.equal(err.cause, value)
    t.end()
  })
}

t.test('a VxmeshError is returned unchanged', t => {
  const err = invalid('vni', 'no')
  t.equal(asVxmeshError(err), err)
  t.ok(err instanceof Error)
  t.equal(err.name, 'VxmeshError')
  t.end()
})
