import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { challengeOf, stepUpOf } from '../../sw/http/challenge.js'

const answer = (challenge?: string, status = 401) =>
  new Response('', { status, headers: challenge ? { 'www-authenticate': challenge } : {} })

describe('the parameters of a challenge', () => {
  test.each<[string | undefined, Record<string, string>]>([
    [undefined, {}],
    ['Bearer', {}],
    ['Negotiate dG9rZW4=', { dg9rzw4: '' }],
    ['Bearer realm="x", error="invalid_token"', { realm: 'x', error: 'invalid_token' }],
    ['Bearer ERROR = invalid_token , scope="a b"', { error: 'invalid_token', scope: 'a b' }],
    ['Basic realm="x", Bearer error="a", DPoP error="b"', { realm: 'x', error: 'a' }],
    // What is inside of a quoted text is no parameter.
    ['Bearer realm="x, error=\\"a\\", y", error="b"', { realm: 'x, error=\\"a\\", y', error: 'b' }],
    ['Bearer error_description="error=a"', { error_description: 'error=a' }],
  ])('of %j are %j (RF-17)', (challenge, expected) => {
    expect(Object.fromEntries(challengeOf(answer(challenge)))).toEqual(expected)
  })
})

describe('a step up', () => {
  test.each<[string, object]>([
    ['Bearer error="insufficient_scope"', { wants: 'scope', params: {} }],
    [
      'Bearer error="insufficient_scope", scope="a b"',
      { wants: 'scope', scope: 'a b', params: {} },
    ],
    [
      'Bearer error="insufficient_user_authentication", acr_values="urn:x:2 gold", max_age="5"',
      { wants: 'authentication', params: { acr_values: 'urn:x:2 gold', max_age: '5' } },
    ],
    [
      'DPoP error=insufficient_user_authentication, max_age=0',
      { wants: 'authentication', params: { max_age: '0' } },
    ],
  ])('is asked for by %j (RF-17)', (challenge, expected) => {
    for (const status of [401, 403]) {
      expect(stepUpOf(answer(challenge, status))).toEqual({ type: 'step-up', ...expected })
    }
  })

  test.each([
    undefined,
    'Bearer',
    'Bearer error="invalid_token", scope="a"',
    'Bearer error="insufficient"',
    'Bearer error="insufficient_scope_x"',
    'Bearer error_description="error=insufficient_scope"',
  ])('is not asked for by %j', (challenge) => {
    expect(stepUpOf(answer(challenge))).toBeUndefined()
  })

  test('leaves out what no server has to say (RF-17)', () => {
    const error = 'Bearer error="insufficient_user_authentication"'
    const plain = { type: 'step-up', wants: 'authentication', params: {} }
    for (const rest of [
      'max_age=-1',
      'max_age=5m',
      'max_age=1e9',
      `max_age=${'9'.repeat(10)}`,
      'acr_values=""',
      'acr_values="a\\"b"',
      `acr_values="${'a'.repeat(301)}"`,
      'acr_values="caf\xe9"',
      'acr_values="a\tb"',
    ]) {
      expect(stepUpOf(answer(`${error}, ${rest}`)), rest).toEqual(plain)
    }
  })

  test('whatever the header says, carries short plain words only (RF-17)', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab" \\=,;\t\xe9<>&?#1'), maxLength: 400 })
    fc.assert(
      fc.property(text, text, text, (scope, acr, age) => {
        const header = `Bearer error="insufficient_scope",scope="${scope}",acr_values=${acr},max_age=${age}`
        const {
          params,
          type: _,
          ...rest
        } = stepUpOf(answer(header)) as {
          params: object
          type: string
        }
        for (const value of [...Object.values(params), ...Object.values(rest)]) {
          expect(value).toMatch(/^[ !#-[\]-~]{1,300}$/)
        }
      }),
    )
  })
})
