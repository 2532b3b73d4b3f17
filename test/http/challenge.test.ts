import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { challengeOf, isForNewToken, stepUpOf } from '../../sw/http/challenge.js'

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
    // What is not as the standard has it.
    ["Bearer error='invalid_token', scope='a b'", { error: 'invalid_token', scope: 'a b' }],
    ["Bearer error='invalid_token", { error: "'invalid_token" }],
    ['Bearer error="", error="b"', { error: '' }],
    ['Bearer error="a', { error: '' }],
    ['Bearer x="the "exp" is past", error="a"', { x: 'the ', error: 'a' }],
    ['Bearer,error=a,,scope=b', { error: 'a', scope: 'b' }],
    ['Bearer error', {}],
    [',=",=\\', {}],
  ])('of %j are %j (RF-17)', (challenge, expected) => {
    expect(Object.fromEntries(challengeOf(answer(challenge)).params)).toEqual(expected)
  })
})

test('a challenge is not read without end', () => {
  const has = (length: number) =>
    challengeOf(answer(`Bearer x="${'x'.repeat(length)}", error="a"`)).params.has('error')
  expect([has(8_000), has(9_000)]).toEqual([true, false])
})

describe('a 401', () => {
  test.each([
    undefined,
    'Bearer',
    'Bearer realm="api"',
    'JWT realm="api"',
    'Basic realm="x", Bearer realm="x"',
    'Basic error="invalid_token"',
    ...['invalid_token', 'INVALID_TOKEN', 'expired_token', 'token_expired', 'unauthorized'].map(
      (code) => `Bearer error="${code}"`,
    ),
    "Bearer error='invalid_token'",
    'Bearer error=""',
    'Bearer error="The token expired at 10:00"',
    'Bearer error_description="not "error=insufficient" at all"',
    'Bearer error="invalid_token", error_description="not error="insufficient_scope""',
    'Bearer error="insufficient_scope_x"',
  ])('with the challenge %j may mean an expired token', (challenge) => {
    expect(isForNewToken(answer(challenge))).toBe(true)
  })

  test.each([
    'Bearer error="insufficient_scope"',
    "Bearer error='insufficient_scope'",
    'Bearer error="INSUFFICIENT_SCOPE"',
    'Bearer error="insufficient_user_authentication"',
    'Bearer error="insufficient_claims"',
    'Bearer error="invalid_request"',
    'DPoP error="use_dpop_nonce"',
    'DPoP algs="ES256", error="invalid_dpop_proof"',
    'Basic realm="staging"',
    'Basic',
    'Negotiate',
    'Negotiate, NTLM',
    'Digest realm="x", nonce="y", qop="auth"',
  ])('with the challenge %j is nothing that a new token could help', (challenge) => {
    expect(isForNewToken(answer(challenge))).toBe(false)
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

  test("has Entra's claims challenge as the parameter that the sign-in takes", () => {
    const claims = '{"access_token":{"acrs":{"essential":true,"value":"c1"},"name":{"value":"é"}}}'
    const expected = { type: 'step-up', wants: 'authentication', params: { claims } }
    const encoded = btoa(String.fromCharCode(...new TextEncoder().encode(claims)))
    for (const text of [encoded, encoded.replaceAll('=', '')]) {
      const where = 'realm="", authorization_uri="https://login.example/authorize"'
      const header = `Bearer ${where}, error="insufficient_claims", claims="${text}"`
      expect(stepUpOf(answer(header))).toEqual(expected)
    }
  })

  test.each([
    ['none', ''],
    ['no base64', '{"access_token":{}}'],
    ['no JSON', btoa('access_token')],
    ['no object', btoa('[1]')],
    ['nothing', btoa('null')],
    ['too long', btoa(JSON.stringify({ a: 'x'.repeat(2_000) }))],
  ])('has no claims that are %s', (_title, claims) => {
    const header = `Bearer error="insufficient_claims", claims="${claims}"`
    const expected = { type: 'step-up', wants: 'authentication', params: {} }
    expect(stepUpOf(answer(header))).toEqual(expected)
  })

  test('has claims only where the server says that they are what it lacks', () => {
    const header = `Bearer error="insufficient_scope", claims="${btoa('{}')}"`
    expect(stepUpOf(answer(header))).toEqual({ type: 'step-up', wants: 'scope', params: {} })
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
