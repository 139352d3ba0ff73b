import fc from 'fast-check'
import t from 'tap'
import type { Labels } from '#model/labels.ts'
import {
  formatRequirements,
  MAX_REQUIREMENTS,
  meets,
  parseRequirements,
  parseRequirementsText,
  parseRequirementText,
  type Requirements
} from '#model/requirement.ts'

const error = (field: string, message: RegExp): { code: string; field: string; message: RegExp } => ({
  ...{ code: 'ERR_INVALID', field, message }
})

t.test('an endpoint meets a selector when it meets each of its requirements', t => {
  const web: Labels = { app: 'web', canary: '' }
  for (const [text, expected] of [
    ['*', true],
    ['app=web', true],
    ['app=db', false],
    ['app', true],
    ['tier', false],
    ['canary=', true],
    ['canary=x', false],
    ['app!=db', true],
    ['app!=web', false],
    ['tier!=db', true],
    ['canary!=', false],
    ['!tier', true],
    ['!app', false],
    ['app=web+canary', true],
    ['app=web+!canary', false],
    ['app=db+canary', false],
    // What every object has is no label.
    ['constructor', false],
    ['!constructor', true],
    ['constructor!=x', true]
  ] as const) {
    t.equal(meets(web, parseRequirementsText(text, 'select')), expected, text)
  }
  t.equal(meets({}, []), true)
  t.end()
})

t.test('what is no selector is refused, and the refusal names the field', t => {
  for (const text of ['', '+', 'a+', '!', '!a=b', '=b', '!=b', 'a=b=c', 'a b', 'a,b', 'a!', '*+a', 'cidr:10.0.0.0/8']) {
    t.throws(() => parseRequirementsText(text, 'select'), error('select', /^select: /), JSON.stringify(text))
  }
  const many = Array.from({ length: MAX_REQUIREMENTS + 1 }, (_, n) => `k${n}`)
  t.throws(() => parseRequirementsText(many.join('+'), 'from'), error('from', /17 requirements, and 16 are the most/))
  t.equal(parseRequirementsText(many.slice(1).join('+'), 'from').length, MAX_REQUIREMENTS)
  t.end()
})

t.test('the form of commands is checked as strictly, and what is not known is left out', t => {
  t.same(parseRequirements([{ key: 'a', value: 'b', not: true, more: 1 }, { key: 'c' }], 'select'), [
    { key: 'a', value: 'b', not: true },
    { key: 'c' }
  ])
  for (const value of [
    ...[undefined, null, {}, 'a', [null], ['a'], [{}], [{ key: 1 }], [{ key: '' }], [{ key: 'a', value: 1 }]],
    ...[[{ key: 'a', value: null }], [{ key: 'a', not: false }], [{ key: 'a', not: 'x' }], [{ key: 'a', value: '-' }]],
    // A key must not become a key with a value.
    ...[[{ key: 'a=b' }], [{ key: 'a=b', value: 'c' }], Array.from({ length: 17 }, () => ({ key: 'a' }))]
  ]) {
    t.throws(() => parseRequirements(value, 'select'), { code: 'ERR_INVALID' }, JSON.stringify(value))
  }
  t.end()
})

t.test('text and form are the same selector', t => {
  const requirement = fc.record(
    {
      key: fc.constantFrom('a', 'x.org/b', 'C'),
      value: fc.constantFrom('', 'v', '1.2'),
      not: fc.constant(true as const)
    },
    { requiredKeys: ['key'] }
  )
  fc.assert(
    fc.property(fc.array(requirement, { maxLength: 4 }), all => {
      const selector = all as Requirements
      t.same(parseRequirementsText(formatRequirements(selector), 'select'), selector)
      t.same(parseRequirements(selector, 'select'), selector)
    })
  )
  t.same(parseRequirementText('a!=', 'select'), { key: 'a', value: '', not: true })
  t.end()
})
