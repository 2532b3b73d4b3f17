/** What is wrong with an answer of the authorization server, as a `TokenError`. */
import { oauthCodes, TokenError } from '../../src/shared/errors.js'

/** Words of a server, made harmless: short, and without control characters. */
export const quote = (words: unknown): string =>
  typeof words === 'string' ? words.replace(/[^\x20-\x7e]/g, ' ').slice(0, 200) : ''

/** An error that the server sent (RFC 6749 4.1.2.1 and 5.2). */
export const oauthError = (code: string, description: unknown): TokenError =>
  new TokenError(
    // A code that pages cannot know becomes `server_error`.
    oauthCodes.find((each) => each === code) ?? 'server_error',
    `The authorization server answered ${quote(code)}. ${quote(description)}`,
  )

// None of these has a cause: the errors of oauth4webapi hold the whole answer, tokens and all.

export const invalidAnswer = (what: string): TokenError =>
  new TokenError('invalid_token_response', `The authorization server's answer ${what}.`)

export const invalidCallback = (why: string): TokenError =>
  new TokenError('invalid_callback', `The answer was refused: ${why}`)

export const invalidIdToken = (why: string): TokenError =>
  new TokenError('invalid_id_token', `The ID token was refused: ${why}`)

export const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : '')
