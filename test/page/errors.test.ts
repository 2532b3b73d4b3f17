import { describe, expect, test } from 'vitest'
import { fromErrorData, isTokenError, TokenError, toErrorData } from '../../src/shared/errors.js'

describe('a TokenError', () => {
  test('is an Error with a name, a code and a cause', () => {
    const cause = new Error('cause')
    const error = new TokenError('timeout', 'Too slow.', cause)
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({
      name: 'TokenError',
      code: 'timeout',
      message: 'Too slow.',
      cause,
    })
    expect(String(error)).toBe('TokenError: Too slow.')
  })

  test.each([
    ...[
      'invalid_token_response',
      'login_interrupted',
      'metadata_unreachable',
      'no_page',
      'offline',
    ],
    ...['server_error', 'silent_login_blocked', 'storage_failed', 'temporarily_unavailable'],
    ...['timeout', 'token_endpoint_unreachable', 'worker_timeout'],
  ] as const)('with the code %s passes: try again later (ER-01)', (code) => {
    expect(new TokenError(code, '').transient).toBe(true)
  })

  test.each([
    ...['invalid_grant', 'login_required', 'access_denied', 'invalid_configuration', 'clock'],
    ...['invalid_id_token', 'user_changed', 'signed_out', 'unsupported', 'cancelled'],
  ] as const)('with the code %s does not pass by itself (ER-01)', (code) => {
    expect(new TokenError(code, '').transient).toBe(false)
  })

  test('is known by name, also from another copy of the library', () => {
    class Other extends Error {
      override name = 'TokenError'
      code = 'offline'
    }
    expect(isTokenError(new Other())).toBe(true)
    expect(isTokenError(new TokenError('offline', ''))).toBe(true)
  })

  test.each([
    undefined,
    null,
    'TokenError',
    new Error('TokenError'),
    { name: 'TokenError', code: 'offline' },
    Object.assign(new Error(), { code: 'offline' }),
    Object.assign(new Error(), { name: 'TokenError' }),
  ])('is not %o', (value) => {
    expect(isTokenError(value)).toBe(false)
  })
})

describe('an error on the wire', () => {
  test('is plain data without cause and stack, and comes back as an error (ER-01, ER-02)', () => {
    const error = new TokenError('offline', 'There is no network.', new Error('secret'))
    const data = structuredClone(toErrorData(error))
    expect(data).toEqual({ code: 'offline', message: 'There is no network.' })
    const back = fromErrorData(data)
    expect(isTokenError(back)).toBe(true)
    expect(back).toMatchObject({
      code: 'offline',
      message: 'There is no network.',
      transient: true,
    })
    expect(back.cause).toBeUndefined()
  })
})
