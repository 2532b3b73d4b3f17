// The same app beside Workbox: only the worker is another one. An app that registers its worker
// itself calls createTokenManager() without a URL.
import { createTokenManager } from 'tokenward'
import { showAccount } from '../app/account.js'
import { showCalls } from '../app/calls.js'
import { showPicture } from '../app/picture.js'

const auth = createTokenManager('/workbox/sw.js')

showAccount(auth)
showCalls()
showPicture('/workbox/')
