import Collective
