// A session that is there before the app is first loaded: a sign-in without its redirects.
import { createHash, randomBytes } from 'node:crypto'
import type { BrowserContext, Page } from 'playwright-core'
import { endpointOf } from '../../sw/http/server-path.js'
import { readJwt } from '../../sw/server/jwt.js'
import type { ActiveRecord, StoredMetadata } from '../../sw/session/records.js'
import type { World } from './world.js'

type Server = Pick<World, 'as' | 'clientId' | 'url'>
type Cookie = Parameters<BrowserContext['addCookies']>[0][number]
type SameSite = NonNullable<Cookie['sameSite']>

const scope = 'openid profile offline_access'
const random = () => randomBytes(32).toString('base64url')
const sha256 = (text: string) => createHash('sha256').update(text)

/** The cookie that a `Set-Cookie` header sets at `url`. */
const readCookie = (header: string, url: URL): Cookie => {
  const [pair = '', ...attributes] = header.split('; ')
  const at = pair.indexOf('=')
  const [, sameSite = 'lax'] = /; samesite=(\w+)/i.exec(header) ?? []
  return {
    name: pair.slice(0, at),
    value: pair.slice(at + 1),
    url: url.origin,
    httpOnly: attributes.includes('httponly'),
    sameSite: (sameSite.charAt(0).toUpperCase() + sameSite.slice(1).toLowerCase()) as SameSite,
  }
}

/** Goes to the server and back, as a browser does. Gives the code and the server's cookies. */
const visit = async (start: URL, redirectUri: string) => {
  const cookies = new Map<string, Cookie>()
  let url = start
  while (!url.href.startsWith(redirectUri)) {
    const cookie = [...cookies.values()].map(({ name, value }) => `${name}=${value}`).join('; ')
    const response = await fetch(url, { redirect: 'manual', headers: { cookie } })
    for (const header of response.headers.getSetCookie()) {
      const found = readCookie(header, url)
      if (found.value) cookies.set(found.name, found)
      else cookies.delete(found.name)
    }
    const location = response.headers.get('location')
    if (!location) throw new Error(`${url} answered ${response.status}: ${await response.text()}`)
    url = new URL(location, url)
  }
  return { code: url.searchParams.get('code') ?? '', cookies: [...cookies.values()] }
}

/** Signs in at the authorization server, with the requests of the app but without a browser. */
const signInAtServer = async ({ as, clientId, url }: Server) => {
  const discovery = await fetch(`${as.issuer}/.well-known/openid-configuration`)
  const metadata = await discovery.json()
  const redirectUri = `${url}tokenward/callback.html`
  const verifier = random()
  const start = new URL(metadata.authorization_endpoint)
  start.search = String(
    new URLSearchParams({
      client_id: clientId,
      redirect_uri: redirectUri,
      response_type: 'code',
      scope,
      prompt: 'consent',
      state: random(),
      nonce: random(),
      code_challenge: sha256(verifier).digest('base64url'),
      code_challenge_method: 'S256',
    }),
  )
  const { code, cookies } = await visit(start, redirectUri)
  const body = new URLSearchParams({
    grant_type: 'authorization_code',
    client_id: clientId,
    redirect_uri: redirectUri,
    code_verifier: verifier,
    code,
  })
  const answer = await fetch(metadata.token_endpoint, { method: 'POST', body })
  if (!answer.ok) throw new Error(`The token endpoint answered ${await answer.text()}`)
  return { metadata, cookies, tokens: await answer.json() }
}

const names = ['name', 'preferred_username', 'sub']

/** What the worker stores of such a sign-in: docs/storage.md. */
const recordsOf = ({ metadata, tokens }: Awaited<ReturnType<typeof signInAtServer>>) => {
  const now = Date.now()
  const claims = readJwt(tokens.id_token, 1) as ActiveRecord['claims']
  const subject = String(claims['sub'])
  const session: ActiveRecord = {
    status: 'active',
    generation: 1,
    session: random(),
    since: now,
    claims: Object.fromEntries(Object.entries(claims).filter(([name]) => names.includes(name))),
    subject,
    scope: tokens.scope,
    idToken: tokens.id_token,
    accessToken: tokens.access_token,
    accessTokenIssuedAt: now,
    accessTokenExpiresAt: now + tokens.expires_in * 1000,
    refreshToken: tokens.refresh_token,
    user: sha256(subject).digest('base64'),
    protocolEndpoints: Object.entries(metadata)
      .filter(([name]) => /(?<!userinfo)_endpoint$|^jwks_uri$/.test(name))
      .map(([, url]) => endpointOf(new URL(String(url)))),
  }
  return { session, metadata: { metadata, fetchedAt: now } satisfies StoredMetadata }
}

/**
 * Makes the database of sw/session/database.ts, before any script of the document runs. The records
 * come with the transaction that makes it, so a worker finds none of it or all.
 */
const writeDatabase = ({
  name,
  session,
  metadata,
}: { name: string } & ReturnType<typeof recordsOf>) => {
  const request = indexedDB.open(name)
  request.onupgradeneeded = () => {
    const [sessions, , servers] = ['session', 'transactions', 'server'].map((store) =>
      request.result.createObjectStore(store),
    )
    sessions?.add(session, 'current')
    servers?.add(metadata, 'metadata')
  }
  request.onsuccess = () => request.result.close()
}

/**
 * Opens a page in a profile that has what the app and the server leave there when the user of
 * `autoSignIn` signs in; `load` has it load the app. For the default scope, without DPoP, in a
 * profile without the app's database.
 */
export const openSeeded = async (
  world: Server & Pick<World, 'databaseName'>,
  context: BrowserContext,
  load: (page: Page) => Promise<unknown>,
): Promise<Page> => {
  const [page, signedIn] = await Promise.all([context.newPage(), signInAtServer(world)])
  await context.addCookies(signedIn.cookies)
  const records = { name: world.databaseName, ...recordsOf(signedIn) }
  const script = await page.addInitScript(writeDatabase, records)
  await load(page)
  await script.dispose()
  return page
}
